//! Both stores against one contract, then what only files can do wrong.

use std::{error::Error, os::unix::fs::PermissionsExt, thread};

use super::*;

fn both(check: impl Fn(&dyn Store)) {
    let dir = tempfile::tempdir().unwrap();
    check(&FileStore::new(dir.path().join("deep/state")));
    check(&MemoryStore::new());
}

#[test]
fn content_is_replaced_and_read_back() {
    both(|store| {
        assert_eq!(store.read("identity").unwrap(), None);
        store.write_durable("identity", b"a long first version").unwrap();
        store.write_durable("identity", b"v2").unwrap();
        assert_eq!(store.read("identity").unwrap().as_deref(), Some(&b"v2"[..]));
    });
}

#[test]
fn writes_at_the_same_time_leave_one_of_them_whole() {
    both(|store| {
        thread::scope(|scope| {
            for byte in b'a'..b'e' {
                scope.spawn(move || (0..20).for_each(|_| store.write_durable("x", &[byte; 9000]).unwrap()));
            }
        });
        let content = store.read("x").unwrap().unwrap();
        assert_eq!(content, [content[0]; 9000]);
    });
}

#[test]
fn a_child_is_the_same_part_each_time_and_cannot_leave_the_store() {
    both(|store| {
        for name in ["a", "..", "../a", "/etc", ".hidden", ""] {
            store.child(name).write_durable("x", name.as_bytes()).unwrap();
        }
        for name in ["a", "..", "../a", "/etc", ".hidden"] {
            assert_eq!(store.child(name).read("x").unwrap().as_deref(), Some(name.as_bytes()));
        }
    });
}

#[test]
fn the_second_daemon_on_a_store_is_told_who_holds_it() {
    both(|store| {
        let held = store.lock().unwrap();
        let error = store.lock().map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", process::id())), "{error}");
        assert!(error.next_step().contains("give this daemon another state directory"));
        store.child("other").lock().unwrap();
        drop(held);
        store.lock().unwrap();
    });
}

/// Whether it is so within two seconds.
fn soon(is_so: impl Fn() -> bool) -> bool {
    (0..200).any(|_| {
        thread::sleep(std::time::Duration::from_millis(10));
        is_so()
    })
}

#[test]
fn a_lock_is_let_go_by_a_process_that_dies_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::new(dir.path());
    drop(store.lock().unwrap());
    // util-linux's flock takes the same kind of lock as std does.
    let lock_file = dir.path().join(LOCK_FILE);
    let Ok(mut child) = process::Command::new("flock").arg(&lock_file).args(["sleep", "60"]).spawn() else {
        eprintln!("not tested: no flock(1) on this machine");
        return;
    };
    assert!(soon(|| store.lock().is_err()), "flock(1) never took the lock");
    // The sleep under flock(1) inherits the descriptor, so both have to go.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    for pid in children.split_whitespace() {
        process::Command::new("kill").args(["-9", pid]).status().unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(soon(|| store.lock().is_ok()), "the lock outlived its process");
}

#[test]
fn scripted_faults_look_like_the_real_ones() {
    let store = MemoryStore::new();
    store.write_durable("identity", b"old").unwrap();
    store.set_fault(Some(StoreFault::FullDisk));
    let error = store.child("h").write_durable("identity", b"new").unwrap_err();
    assert_eq!(error.to_string(), "cannot write (memory)/h/identity");
    assert_eq!(error.source().unwrap().to_string(), "No space left on device (os error 28)");
    assert!(error.next_step().starts_with("free space on the file system of"), "{}", error.next_step());
    assert_eq!(store.read("identity").unwrap().as_deref(), Some(&b"old"[..]));
    store.set_fault(Some(StoreFault::ReadOnly));
    assert!(store.write_durable("identity", b"new").unwrap_err().next_step().contains("remount"));
    store.set_fault(Some(StoreFault::Denied));
    assert!(store.read("identity").unwrap_err().next_step().contains("access"));
    store.set_fault(None);
    store.write_durable("identity", b"new").unwrap();
}

#[test]
fn a_full_file_system_is_reported_and_the_old_content_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |program: &str, arguments: &[&str]| {
        process::Command::new(program)
            .args(arguments)
            .arg(dir.path())
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=16k", "tmpfs"]) {
        eprintln!("not tested: this user may not mount a small file system");
        return;
    }
    let store = FileStore::new(dir.path());
    store.write_durable("identity", b"old").unwrap();
    let error = store.write_durable("identity", &[b'x'; 64 << 10]).unwrap_err();
    let read = store.read("identity").unwrap();
    // The leftover is gone, and so is the trouble.
    let again = store.write_durable("identity", b"new");
    assert!(mount("umount", &[]));
    assert_eq!(error.to_string(), format!("cannot write {}", dir.path().join("identity").display()));
    assert!(error.next_step().starts_with("free space"), "{}", error.next_step());
    assert_eq!(read.as_deref(), Some(&b"old"[..]));
    again.unwrap();
}

#[test]
fn state_is_for_its_own_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = FileStore::new(&state);
    store.write_durable("identity", b"x").unwrap();
    let lock = store.lock().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&state), mode(&state.join("identity")), mode(&state.join(LOCK_FILE))),
        (0o700, 0o600, 0o600)
    );
    drop(lock);
    // A file that an older version left open to all is closed by the next write.
    fs::set_permissions(state.join("identity"), Permissions::from_mode(0o644)).unwrap();
    store.write_durable("identity", b"y").unwrap();
    assert_eq!(mode(&state.join("identity")), 0o600);
}

#[test]
fn what_is_no_regular_file_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::new(dir.path());
    let outside = dir.path().join("outside");
    fs::write(&outside, b"precious").unwrap();
    let place: [(&str, &dyn Fn(&Path)); 3] = [
        ("link", &|path| std::os::unix::fs::symlink(&outside, path).unwrap()),
        ("fifo", &|path| assert!(process::Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("directory", &|path| fs::create_dir(path).unwrap()),
    ];
    for (kind, make) in place {
        make(&dir.path().join(kind));
        for error in [store.read(kind).unwrap_err(), store.write_durable(kind, b"new").unwrap_err()] {
            assert!(error.to_string().ends_with(kind), "{error}");
            assert!(error.next_step().contains("away"), "{kind}: {}", error.next_step());
        }
    }
    // A link where the new content is prepared is replaced, not followed.
    std::os::unix::fs::symlink(&outside, dir.path().join(".identity.new")).unwrap();
    store.write_durable("identity", b"new").unwrap();
    assert_eq!(store.read("identity").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

#[test]
fn a_state_directory_that_is_a_file_or_forbidden_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    fs::write(&file, "").unwrap();
    let error = FileStore::new(&file).write_durable("x", b"").unwrap_err();
    assert!(error.to_string().starts_with("cannot create the directory"), "{error}");
    assert!(error.next_step().contains("move it"), "{}", error.next_step());

    if rustix::process::geteuid().is_root() {
        eprintln!("not tested: permissions do not bind root");
        return;
    }
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let error = FileStore::new(&closed).write_durable("x", b"").unwrap_err();
    assert!(error.next_step().contains("read and write access"), "{}", error.next_step());
}
