//! A disk that its kernel makes read-only in the middle, because of a fault that it found (attacks.md 35).

use lab::{LONG, files};

use crate::{
    pair::Pair,
    power::{Ground, Image},
};

/// The cause is said, nothing ends and nothing is lost; on the disk mounted anew the next run goes on.
pub(crate) fn attack_35_a_disk_that_becomes_read_only(image: Image) {
    let ground = Ground::Image(image);
    let pair = Pair::new(&ground);
    files::small_files(&pair.a, 20, 100, 5, 35);
    let a = pair.start_a();
    pair.agree(&a);
    let mut b = pair.live_b(&a);
    b.expect("in_sync");
    files::write(pair.a.join("before.txt"), "came in time");
    b.expect_where("a live change", LONG, |event| {
        event["event"] == "applied" && event["path"] == "before.txt"
    });
    ground.settle();
    ground.find_a_fault();
    files::write(pair.a.join("late.txt"), "comes when it can be written");
    let told = b.expect_where("the cause is named", LONG, |event| {
        let reason = event["reason"].as_str().unwrap_or_default();
        event["event"] == "skipped" && (reason.contains("read-only") || reason.contains("written"))
    });
    assert!(told["reason"].as_str().is_some_and(|why| why.contains("goes on by itself")), "{told}");
    assert!(!b.has_ended(), "it waits for its disk: {told}");
    b.kill();
    drop(b);
    ground.restore();
    assert!(files::holds(pair.b.join("before.txt"), "came in time"));
    pair.agree(&a);
    pair.assert_equal();
}
