use super::{cubic::cube_root, *};

const MSS: u64 = 1_000;

/// Acknowledges a full window for each of `rounds` round trips of 100 ms.
fn rounds(control: &mut Control, now: &mut u64, offset: &mut u64, rounds: u32) {
    for _ in 0..rounds {
        *now += 100_000;
        let (mut left, flight) = (control.window(), control.window());
        let end = *offset + flight;
        while left > 0 {
            let bytes = left.min(2 * MSS);
            left -= bytes;
            *offset += bytes;
            control.on_ack(&Acked {
                now: *now,
                bytes,
                rtt: Some(100_000),
                smoothed: 100_000,
                una: *offset,
                nxt: end + flight,
            });
        }
    }
}

fn after_loss(algorithm: Algorithm, window: u64) -> Control {
    let mut control = Control::new(algorithm, MSS);
    control.set_window(window);
    control.on_loss();
    control.set_window(control.threshold());
    control
}

#[test]
fn slow_start_doubles_and_avoidance_adds_one_segment() {
    let mut control = Control::new(Algorithm::Reno, MSS);
    let (mut now, mut offset) = (0, 1);
    rounds(&mut control, &mut now, &mut offset, 3);
    assert_eq!(control.window(), 80 * MSS);
    control.on_loss();
    control.set_window(control.threshold());
    assert_eq!(control.window(), 40 * MSS);
    rounds(&mut control, &mut now, &mut offset, 10);
    assert_eq!(control.window() / MSS, 50);
}

#[test]
fn cubic_returns_to_the_old_window_after_k() {
    // K = cbrt(1 000 × 0.3 / 0.4) = 9.09 s, so 91 round trips.
    let mut control = after_loss(Algorithm::Cubic, 1_000 * MSS);
    assert_eq!(control.window(), 700 * MSS);
    let (mut now, mut offset) = (0, 1);
    rounds(&mut control, &mut now, &mut offset, 30);
    let early = control.window() / MSS;
    // 1 000 - 0.4 × (9.09 - 3.0)^3 = 910
    assert!((895..=920).contains(&early), "{early}");
    rounds(&mut control, &mut now, &mut offset, 61);
    let flat = control.window() / MSS;
    assert!((990..=1_005).contains(&flat), "{flat}");
    rounds(&mut control, &mut now, &mut offset, 50);
    // 1 000 + 0.4 × 5^3 = 1 050
    let late = control.window() / MSS;
    assert!((1_040..=1_062).contains(&late), "{late}");
}

#[test]
fn small_windows_grow_as_with_reno() {
    let mut control = after_loss(Algorithm::Cubic, 20 * MSS);
    let (mut now, mut offset) = (0, 1);
    rounds(&mut control, &mut now, &mut offset, 10);
    // α is 9/17 until the old window is reached.
    let window = control.window() / MSS;
    assert!((18..=20).contains(&window), "{window}");
}

#[test]
fn a_second_loss_below_the_first_gives_way() {
    let mut control = after_loss(Algorithm::Cubic, 1_000 * MSS);
    control.on_loss();
    control.set_window(control.threshold());
    assert_eq!(control.window(), 490 * MSS);
    let (mut now, mut offset) = (0, 1);
    // The curve is flat at 700 × 0.85 = 595 after K = cbrt(105 / 0.4) = 6.4 s.
    rounds(&mut control, &mut now, &mut offset, 64);
    let window = control.window() / MSS;
    assert!((590..=598).contains(&window), "{window}");
}

#[test]
fn timeouts_and_idle_periods_reduce_the_window() {
    let mut control = after_loss(Algorithm::Cubic, 100 * MSS);
    control.on_timeout(false);
    assert_eq!((control.window(), control.threshold()), (MSS, 49 * MSS));
    control.on_timeout(true);
    assert_eq!(control.threshold(), 49 * MSS);
    control.set_window(80 * MSS);
    control.on_idle(600_000, 300_000);
    assert_eq!(control.window(), 20 * MSS);
    control.on_idle(u64::MAX, 300_000);
    assert_eq!(control.window(), 10 * MSS);
}

#[test]
fn hystart_ends_when_the_queue_grows() {
    let mut control = Control::new(Algorithm::Cubic, MSS);
    let mut offset = 1;
    let mut ack = |control: &mut Control, now: u64, rtt: u64, nxt: u64| {
        offset += MSS;
        let acked = Acked {
            now,
            bytes: MSS,
            rtt: Some(rtt),
            smoothed: rtt,
            una: offset,
            nxt,
        };
        control.on_ack(&acked);
    };
    for n in 0..10 {
        ack(&mut control, 100_000 + n * 3_000, 100_000, 10 * MSS + 1);
    }
    assert_eq!(control.window(), 20 * MSS);
    // The next round is 13 ms slower, which is more than an eighth.
    for n in 0..9 {
        ack(&mut control, 220_000 + n * 3_000, 113_000, 30 * MSS + 1);
    }
    assert!(!control.slow_start());
    assert!(control.window() < 30 * MSS);
}

#[test]
fn cube_roots() {
    for n in [0, 1, 7, 8, 26, 27, 1_000_000_000, u64::MAX] {
        let root = u128::from(cube_root(n));
        assert!(root.pow(3) <= u128::from(n) && (root + 1).pow(3) > u128::from(n));
    }
}
