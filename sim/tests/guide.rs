//! The program of the guide: it is short, and tells who can be punched.

#[path = "../examples/hole_punching.rs"]
#[allow(dead_code)]
mod hole_punching;

use std::time::Duration;

use hole_punching::punch;

#[test]
fn who_is_punched_and_when() {
    let kinds = ["linux", "full-cone", "restricted-cone", "symmetric"];
    for a in kinds {
        for b in kinds {
            let hard = |nat| nat == "symmetric";
            let strict = |nat| nat == "linux";
            let works = !(hard(a) && (hard(b) || strict(b)) || hard(b) && strict(a));
            for seed in 1..=3 {
                let when = punch([a, b], seed);
                assert_eq!(when.is_some(), works, "{a} and {b}");
                assert!(when.is_none_or(|t| t < Duration::from_secs(2)), "{when:?}");
                assert_eq!(when, punch([a, b], seed));
            }
        }
    }
}

#[test]
fn it_is_short() {
    let lines = include_str!("../examples/hole_punching.rs").lines().count();
    assert!(lines < 80, "{lines}");
}
