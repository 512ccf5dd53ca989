//! The pure parts of the load driver: a wrong quantile or a late arrival would make every figure wrong,
//! and nobody would see it.

// They stand alone, so that they can be read here without the driver around them.
#[path = "../../benches/load/bound.rs"]
mod bound;
#[path = "../../benches/load/marks.rs"]
mod marks;
#[path = "../../benches/load/scale/queue.rs"]
mod queue;
#[path = "../../benches/load/openloop/schedule.rs"]
mod schedule;
#[path = "../../benches/load/sse.rs"]
#[allow(dead_code, reason = "half of it is what the driver counts with")]
mod sse;

use std::time::Duration;

use bound::{Bound, median};
use queue::Station;
use schedule::Schedule;
use sse::{Dialect, Frames, Order};

#[test]
fn arrivals_of_an_open_loop_are_due_on_time_after_a_million_of_them() {
    let schedule = Schedule::new(3_000.0);
    assert_eq!(schedule.due(0), Duration::ZERO);
    assert_eq!(schedule.due(3_000), Duration::from_secs(1));
    // Added up one by one, a third of a nanosecond each would be a third of a millisecond late by now.
    assert_eq!(schedule.due(3_000_000), Duration::from_secs(1_000));
    assert!((0..10_000).all(|index| schedule.due(index) < schedule.due(index + 1)));
}

#[test]
fn a_median_is_the_middle_or_between_the_two_in_the_middle() {
    assert_eq!(median(vec![9.0, 1.0, 5.0]).to_bits(), 5.0_f64.to_bits());
    assert_eq!(median(vec![8.0, 1.0, 2.0, 4.0]).to_bits(), 3.0_f64.to_bits());
    assert!(median(Vec::new()).is_nan());
}

#[test]
fn a_target_is_met_at_its_bound_and_never_by_what_is_no_number() {
    assert_eq!(Bound::AtLeast(0.65).verdict(0.65), "met");
    assert_eq!(Bound::AtLeast(0.65).verdict(0.64), "not met");
    assert_eq!(Bound::AtMost(2.5).verdict(2.5), "met");
    assert_eq!(Bound::AtMost(2.5).verdict(2.51), "not met");
    assert!(!Bound::AtLeast(0.0).is_met_by(f64::NAN) && !Bound::AtMost(9.0).is_met_by(f64::NAN));
    assert_eq!(Bound::AtLeast(0.65).to_string(), "≥ 0.65");
}

#[test]
fn figures_are_written_between_their_marks_and_nowhere_else() {
    let document = "a\n<!-- figures: x -->\nold\n<!-- end: x -->\nb\n";
    let once = marks::replaced(document, "x", "\nnew\n").expect("there are marks");
    assert_eq!(once, "a\n<!-- figures: x -->\n\nnew\n\n<!-- end: x -->\nb\n");
    assert_eq!(marks::replaced(&once, "x", "new").as_deref(), Some(once.as_str()));
    assert_eq!(marks::replaced(document, "y", "new"), None);
    assert_eq!(marks::replaced("<!-- figures: x -->\n", "x", "new"), None);
}

#[test]
fn one_station_takes_as_long_as_the_theory_of_queues_says() {
    // M/M/1: the time in it is exponential with mean 1/(μ-λ), so its 99th percentile is ln 100 of that.
    let station = Station { servers: 1, mean: 0.001 };
    let expected = 100.0_f64.ln() / (1_000.0 - 500.0);
    let simulated = queue::sojourn(&[station], 500.0, 400_000, 0.99, 1);
    assert!((simulated / expected - 1.0).abs() < 0.1, "{simulated} instead of {expected}");
    // Two of them twice as fast as one, and never beyond what they can do at all.
    let limit =
        |servers| queue::highest_rate(&[Station { servers, mean: 0.001 }], 0.05, 50_000, 0.99);
    assert!((800.0..1_000.0).contains(&limit(1)), "{}", limit(1));
    assert!((1_700.0..2_000.0).contains(&limit(2)), "{}", limit(2));
    assert_eq!(queue::index(100, 0.99), 98);
    assert_eq!((queue::index(1, 0.99), queue::index(0, 0.99)), (0, 0));
}

#[test]
fn frames_are_whole_wherever_the_wire_cuts_them() {
    let text = b":\n\nid: 1\nevent: progress\ndata: {\"at\":7}\n\nid: 2\nevent: progress\ndata: {\"at\":8}\n\n\
                 id: 2-end\nevent: status_change\ndata: {}\n\n";
    for piece in 1..text.len() {
        let (mut frames, mut order, mut stamps) = (Frames::default(), Order::default(), Vec::new());
        for chunk in text.chunks(piece) {
            let each = |frame: sse::Frame<'_>| {
                if order.admit(&frame)? {
                    stamps.push(frame.stamp()?);
                }
                Ok(())
            };
            frames.feed(chunk, each).expect("whole frames in order");
        }
        assert_eq!(stamps, [7, 8]);
        order.complete(2).expect("an end after two entries");
    }
}

#[test]
fn a_lost_or_repeated_entry_voids_a_run() {
    let read = |dialect, text: &str| {
        let (mut frames, mut order) = (Frames::default(), Order::default());
        frames.feed(text.as_bytes(), |frame| order.admit_as(dialect, &frame).map(drop))
    };
    let ours = |id: &str| format!("id: {id}\nevent: progress\ndata: {{}}\n\n");
    assert!(read(Dialect::Ours, &(ours("1") + &ours("2"))).is_ok());
    assert!(read(Dialect::Ours, &(ours("1") + &ours("3"))).is_err());
    assert!(read(Dialect::Ours, &(ours("1") + &ours("1"))).is_err());
    let theirs = |number: u64| format!("id: 17:0\ndata: {{\"data\":{{\"n\":{number}}}}}\n\n");
    assert!(read(Dialect::Plain, &(theirs(1) + &theirs(2) + &theirs(0))).is_ok());
    assert!(read(Dialect::Plain, &theirs(2)).is_err());
    assert!(read(Dialect::Plain, &(theirs(1) + &theirs(1))).is_err());
}
