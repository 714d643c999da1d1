//! Each rule of the state machine.

use super::*;

fn at() -> String {
    "2030-01-01T00:00:00.000Z".to_owned()
}

fn building() -> InstanceRecord {
    let build = BuildRequest { name: "web1".to_owned(), ..BuildRequest::default() };
    InstanceRecord::new(build, at())
}

fn active() -> InstanceRecord {
    let mut record = building();
    record.done(Step::Spawn, at());
    record
}

fn shape(record: &InstanceRecord) -> (&'static str, Option<&'static str>, &'static str) {
    let InstanceState { vm_state, task_state, power_state, .. } = &record.state;
    (vm_state.name(), task_state.map(TaskState::name), power_state.name())
}

fn last(record: &InstanceRecord) -> &str {
    &record.events.last().unwrap().event
}

#[test]
fn an_instance_is_built_stopped_and_started() {
    let mut record = building();
    assert_eq!(
        (shape(&record), record.step()),
        (("building", Some("spawning"), "NOSTATE"), Some(Step::Spawn))
    );
    record.done(Step::Spawn, at());
    assert_eq!((shape(&record), record.step()), (("active", None, "RUNNING"), None));
    assert_eq!(record.start(at()), Ok(false));
    assert_eq!(record.stop(at()), Ok(true));
    assert_eq!(record.stop(at()), Ok(false));
    assert_eq!(
        (shape(&record), record.step()),
        (("stopped", Some("powering-off"), "RUNNING"), Some(Step::PowerOff))
    );
    record.done(Step::PowerOff, at());
    assert_eq!((shape(&record), record.stop(at())), (("stopped", None, "SHUTDOWN"), Ok(false)));
    assert_eq!((record.start(at()), record.start(at())), (Ok(true), Ok(false)));
    assert_eq!(
        (shape(&record), record.step()),
        (("active", Some("powering-on"), "SHUTDOWN"), Some(Step::PowerOn))
    );
    record.done(Step::PowerOn, at());
    assert_eq!(shape(&record), ("active", None, "RUNNING"));
}

#[test]
fn a_stop_and_a_start_that_fail_leave_the_guest_as_it_was() {
    let mut record = active();
    record.stop(at()).unwrap();
    assert!(!record.failed(Step::PowerOff, "no power", Rank::default(), at()));
    assert_eq!(
        (shape(&record), record.state.fault.as_deref()),
        (("active", None, "RUNNING"), Some("no power"))
    );
    record.stop(at()).unwrap();
    record.done(Step::PowerOff, at());
    assert_eq!(record.state.fault, None);
    record.start(at()).unwrap();
    record.failed(Step::PowerOn, "no power", Rank::default(), at());
    assert_eq!((shape(&record), last(&record)), (("stopped", None, "SHUTDOWN"), "start failed"));
}

#[test]
fn a_build_that_fails_is_destroyed_and_a_guest_that_cannot_be_made_again_is_kept() {
    let rank = Rank { attempt: 2, try_number: 1 };
    let mut record = building();
    assert!(record.failed(Step::Spawn, "no image", rank, at()));
    assert_eq!(
        (shape(&record), record.step()),
        (("error", Some("deleting"), "NOSTATE"), Some(Step::Destroy))
    );
    assert_eq!(record.ending, Some(Ending::FailedBuild(rank)));
    let mut record = active();
    assert!(record.observe(None, at()));
    assert_eq!((shape(&record), record.step()), (("active", Some("spawning"), "NOSTATE"), Some(Step::Spawn)));
    assert!(!record.failed(Step::Spawn, "no image", rank, at()));
    assert_eq!((shape(&record), record.ending), (("error", None, "NOSTATE"), None));
    assert!(!record.observe(None, at()), "it is not tried for ever");
    assert_eq!(record.start(at()), Ok(true));
}

#[test]
fn what_ends_or_is_being_built_is_neither_stopped_nor_started() {
    let mut record = building();
    assert!(record.stop(at()).unwrap_err().contains("being built"));
    assert!(record.start(at()).unwrap_err().contains("being built"));
    assert!(record.end(Some(Rank::default()), at()));
    assert!(!record.end(Some(Rank::default()), at()), "a second end changes nothing");
    assert!(record.end(None, at()), "a delete is stricter");
    assert_eq!(
        (record.step(), shape(&record)),
        (Some(Step::Destroy), ("building", Some("deleting"), "NOSTATE"))
    );
    assert!(record.stop(at()).unwrap_err().contains("deleted"));
    assert!(record.start(at()).unwrap_err().contains("deleted"));
    assert!(!record.observe(Some(PowerState::Running), at()));
}

#[test]
fn a_guest_that_is_not_as_it_should_be_is_seen() {
    let mut record = active();
    assert!(!record.observe(Some(PowerState::Running), at()));
    assert!(!record.observe(Some(PowerState::Paused), at()));
    assert_eq!(shape(&record), ("active", None, "PAUSED"));
    assert!(record.observe(Some(PowerState::Shutdown), at()));
    assert_eq!((shape(&record), last(&record)), (("stopped", None, "SHUTDOWN"), "guest was found off"));
    assert!(!record.observe(None, at()), "a stopped instance needs no guest");
    assert!(record.observe(Some(PowerState::Running), at()));
    assert_eq!(record.step(), Some(Step::PowerOff));
}

#[test]
fn events_and_faults_are_bounded() {
    let mut record = active();
    for _ in 0..20 {
        record.failed(Step::PowerOff, &"ü".repeat(2000), Rank::default(), at());
    }
    assert_eq!(record.events.len(), MAX_EVENTS);
    let fault = record.state.fault.unwrap();
    assert!(fault.len() <= MAX_TEXT + '…'.len_utf8() && fault.ends_with('…'));
}

#[test]
fn a_build_needs_names() {
    let build = |name: &str, image: Option<&str>, tags: &[&str]| BuildRequest {
        name: name.to_owned(),
        image: image.map(str::to_owned),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    };
    for (build, said) in [
        (build("", None, &[]), "name is not a name"),
        (build("a\u{7}", None, &[]), "name is not a name"),
        (build(&"a".repeat(256), None, &[]), "name is not a name"),
        (build("a", Some(""), &[]), "image is not a name"),
        (build("a", None, &["x", "\n"]), "tag 2 is not a name"),
        (build("a", None, &["x"; 65]), "it has 65 tags, and at most 64 are allowed"),
    ] {
        let fault = fault_of(&build).expect(said);
        assert!(fault.starts_with(said), "{fault}");
    }
    assert_eq!(fault_of(&build(&"a".repeat(255), Some("cirros"), &["x"; 64])), None);
}
