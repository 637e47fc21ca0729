//! Every label, and every way to get one wrong.
//!
//! Must stay true: the table in `docs/docker.md` is what these tests say.

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect()
}

fn read(pairs: &[(&str, &str)]) -> (Labels, Vec<String>) {
    let (read, remarks) = Labels::read(&labels(pairs));
    (read, remarks.iter().map(ToString::to_string).collect())
}

#[test]
fn every_label_of_the_table_is_understood() {
    let (read, remarks) = read(&[
        ("lifeboat.exclude", "/tmp, cache"),
        ("lifeboat.include", "true"),
        ("lifeboat.stop", "true"),
        ("lifeboat.pre", "/bin/sh -c 'sync; echo \"a b\"'"),
        ("lifeboat.pre.user", "postgres"),
        ("lifeboat.pre.timeout", "5m"),
        ("lifeboat.pre.on-error", "continue"),
        ("lifeboat.post", r#"["touch","/a b"]"#),
        ("lifeboat.recipe", "PostgreSQL"),
        ("lifeboat.group", "shop"),
        ("lifeboat.max-pause", "500ms"),
        ("lifeboat.require-healthy", "true"),
        ("com.example.other", "x"),
    ]);
    assert_eq!(remarks, [""; 0]);
    assert!(read.exclude.name(Some("cache"), "/var/cache") && read.exclude.name(None, "/tmp"));
    assert!(!read.exclude.name(Some("data"), "/data"));
    assert_eq!(read.include, Mounts::All);
    assert_eq!(read.quiet, Some(Quiet::Stop));
    assert_eq!(read.pre[0].argv, ["/bin/sh", "-c", "sync; echo \"a b\""]);
    assert_eq!(read.pre[0].user.as_deref(), Some("postgres"));
    assert_eq!(read.pre[0].timeout, Duration::from_secs(300));
    assert_eq!(read.pre[0].on_error, OnError::Continue);
    assert_eq!(read.post[0].argv, ["touch", "/a b"]);
    assert_eq!(read.recipe.as_deref(), Some("postgresql"));
    assert_eq!(read.group.as_deref(), Some("shop"));
    assert_eq!(read.max_pause, Some(Duration::from_millis(500)));
    assert!(read.require_healthy);
}

#[test]
fn commands_run_in_the_order_of_their_numbers_and_not_of_their_names() {
    let (read, remarks) = read(&[
        ("lifeboat.pre.10", "third"),
        ("lifeboat.pre.2", "second"),
        ("lifeboat.pre.2.hold", "true"),
        ("lifeboat.pre", "first"),
    ]);
    let order: Vec<_> = read.pre.iter().map(|command| command.argv[0].as_str()).collect();
    assert_eq!(order, ["first", "second", "third"]);
    assert_eq!(read.pre.iter().map(|command| command.holds).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(remarks, [""; 0]);
}

#[test]
fn what_is_not_understood_is_reported_and_not_followed() {
    let (read, remarks) = read(&[
        ("lifeboat.stop", "maybe"),
        ("lifeboat.max-pause", "0"),
        ("lifeboat.pre", "echo 'open"),
        ("lifeboat.post.timeout", "3s"),
        ("lifeboat.pawse", "true"),
        ("lifeboat.group", " "),
    ]);
    assert_eq!(remarks.len(), 6, "{remarks:#?}");
    assert_eq!(read, Labels::default());
}

#[test]
fn customary_labels_are_honoured_or_reported() {
    let (read, remarks) = read(&[
        ("docker-volume-backup.stop-during-backup", "shop"),
        ("docker-volume-backup.archive-pre", "/bin/dump --all"),
        ("docker-volume-backup.archive-pre.user", "root"),
        ("docker-volume-backup.archive-post", "/bin/clean"),
        ("docker-volume-backup.copy-post", "/bin/late"),
    ]);
    assert_eq!(read.quiet, Some(Quiet::Stop));
    assert_eq!(read.group.as_deref(), Some("shop"));
    assert_eq!(read.pre[0].argv, ["/bin/dump", "--all"]);
    assert_eq!(read.pre[0].user.as_deref(), Some("root"));
    assert_eq!(read.post[0].argv, ["/bin/clean"]);
    assert_eq!(
        remarks,
        ["label `docker-volume-backup.copy-post`: is docker-volume-backup's and not honoured"]
    );
}

#[test]
fn our_own_words_win_over_those_of_another_tool() {
    let (read, _) = read(&[
        ("docker-volume-backup.stop-during-backup", "true"),
        ("docker-volume-backup.archive-pre", "theirs"),
        ("lifeboat.pause", "true"),
        ("lifeboat.pre", "ours"),
    ]);
    assert_eq!(read.pre.len(), 1);
    assert_eq!(read.pre[0].argv, ["ours"]);
    assert_eq!(read.quiet, Some(Quiet::Pause));
}

#[test]
fn stop_is_stronger_than_pause_and_false_leaves_it_running() {
    assert_eq!(read(&[("lifeboat.stop", "true"), ("lifeboat.pause", "true")]).0.quiet, Some(Quiet::Stop));
    assert_eq!(read(&[("lifeboat.stop", "false"), ("lifeboat.pause", "true")]).0.quiet, Some(Quiet::Pause));
    assert_eq!(read(&[("lifeboat.stop", "false")]).0.quiet, Some(Quiet::Leave));
    assert_eq!(read(&[]).0.quiet, None);
}

#[test]
fn times_have_units() {
    assert_eq!(duration("90"), Some(Duration::from_secs(90)));
    assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
    assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
    for wrong in ["", "s", "-1", "1.5s", "1d", "99999999999999999999", "18446744073709551615h"] {
        assert_eq!(duration(wrong), None, "{wrong}");
    }
}
