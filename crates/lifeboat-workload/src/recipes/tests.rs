//! What is decided without asking anybody.

use super::*;

#[test]
fn what_runs_on_is_not_made_quiet_and_everything_else_is() {
    let quiet = |how| Recipe::of(Kind::Redis, how, "").quiet();
    for how in [How::BackupMode, How::Saved, How::AtRest, How::Unprotected] {
        assert_eq!(quiet(how), Quiet::Leave, "{how:?}");
    }
    assert_eq!((quiet(How::Paused), quiet(How::Locked)), (Quiet::Pause, Quiet::Pause));
    assert_eq!(quiet(How::Stopped), Quiet::Stop);
}

#[test]
fn a_record_says_which_database_how_and_when() {
    let mut recipe = Recipe::of(Kind::Postgresql, How::BackupMode, "Holds.");
    recipe.settings.insert("fsync".into(), "on".into());
    let record = recipe.record(Some("then"));
    assert_eq!(
        record,
        json!({"recipe": "postgresql", "how": "backup-mode", "claim": "Holds.", "moment": "then", "settings": {"fsync": "on"}})
    );
    assert!(recipe.record(None).get("moment").is_none());
}
