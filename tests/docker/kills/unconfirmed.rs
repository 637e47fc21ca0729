//! An engine that dies before it has confirmed a pause, and ends services well when it starts again.

use super::place::{self, Place};
use super::proxy::At;
use super::{MOMENTS, flavours, is_last_pause};

#[test]
fn a_service_that_ends_well_with_its_engine_before_its_pause_is_confirmed_is_started() {
    for flavour in flavours("graph") {
        let place = Place::new(flavour);
        place.requests_of_a_run();
        for when in MOMENTS {
            let what = format!("{flavour}: the engine was killed at the first pause, {when:?}");
            let (at, files) = ((At::First(is_last_pause), when), (&*place.socket(), place.state()));
            let (run, touched) =
                place::run_whose_engine_dies(&place.engine, files, at, |proxy| place.run(proxy, &[]));
            let touched = touched.unwrap_or_else(|| panic!("{what}: nothing was paused"));
            // All pauses are announced together, that of the one without any restart policy among them.
            assert!(touched.contains(&place.without_policy().id()), "{what}: {touched:?}");
            place.assert_back(&touched, &what);
            place.finish(run);
            place.assert_back(&touched, &what);
            place.start_what_the_engine_left_down();
            place.clean();
        }
    }
}
