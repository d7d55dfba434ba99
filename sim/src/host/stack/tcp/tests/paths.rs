//! Goodput over paths with known limits.

use super::*;

fn both(path: Path) -> [Path; 2] {
    [path, Path { loss: 0, ..path }]
}

/// The bits per second of a transfer.
fn goodput(net: &mut Net, bytes: u64) -> u64 {
    let began = net.now;
    let ended = transfer(net, bytes, Duration::from_secs(3_600)).expect("it ends");
    bytes * 8_000_000 / (ended - began)
}

#[test]
fn a_long_fat_path_is_filled() {
    // 100 Mbit/s × 100 ms = 1.25 MB, twenty times the old fixed window.
    let path = Path {
        delay_us: 50_000,
        rate: 100_000_000,
        queue: 1_250_000,
        ..Path::default()
    };
    let mut net = Net::new(&TcpConfig::default(), both(path), 1);
    let rate = goodput(&mut net, 100 << 20);
    assert!(rate > 85_000_000, "{rate}");
}

#[test]
fn several_losses_in_a_window_are_repaired_without_a_timeout() {
    let path = Path {
        delay_us: 25_000,
        rate: 20_000_000,
        queue: 100_000,
        loss: 10,
        ..Path::default()
    };
    for algorithm in [Algorithm::Reno, Algorithm::Cubic] {
        let config = TcpConfig {
            algorithm,
            ..TcpConfig::default()
        };
        let mut net = Net::new(&config, both(path), 5);
        let rate = goodput(&mut net, 10 << 20);
        // Mathis et al. (1997): 1 448 × 8 / 50 ms × sqrt(3 / 2p) is 2.8 Mbit/s without delayed
        // acknowledgements.
        assert!(
            (1_500_000..5_000_000).contains(&rate),
            "{algorithm:?}: {rate}"
        );
        let sent = net.sent[0] * 1_448;
        assert!(
            sent < (10 << 20) * 105 / 100,
            "{algorithm:?} sent too much: {sent}"
        );
    }
}

#[test]
fn reordering_alone_costs_little() {
    let path = Path {
        delay_us: 20_000,
        rate: 20_000_000,
        queue: 200_000,
        reorder: 50,
        ..Path::default()
    };
    let mut net = Net::new(&TcpConfig::default(), both(path), 3);
    let rate = goodput(&mut net, 20 << 20);
    assert!(rate > 4_000_000, "{rate}");
}

#[test]
fn a_deep_queue_on_a_slow_uplink_fills() {
    let path = Path {
        delay_us: 20_000,
        rate: 1_000_000,
        queue: 256 << 10,
        ..Path::default()
    };
    let mut net = Net::new(&TcpConfig::default(), both(path), 1);
    goodput(&mut net, 10 << 20);
    let waited = net.waited[0];
    assert!((1_900_000..=2_200_000).contains(&waited), "{waited} µs");
}

#[test]
fn a_lost_end_is_probed_for() {
    let path = Path {
        delay_us: 50_000,
        ..Path::default()
    };
    let mut net = Net::new(&TcpConfig::default(), both(path), 1);
    while net.step(START + 500_000) {}
    net.write(0, &[1; 5_000]);
    net.paths[0].loss = 1_000;
    net.flush();
    net.paths[0].loss = 0;
    let began = net.now;
    while net.ends[1].readable() < 5_000 && net.step(began + 2_000_000) {}
    // The probe after two round trips, the answer, and the rest.
    assert!(net.now - began < 400_000, "{} µs", net.now - began);
}

#[test]
fn a_small_request_is_acknowledged_late_but_not_too_late() {
    let path = Path {
        delay_us: 5_000,
        ..Path::default()
    };
    let mut net = Net::new(&TcpConfig::default(), both(path), 1);
    assert!(transfer(&mut net, 100_000, Duration::from_secs(5)).is_some());
    while net.step(START + 5_000_000) {}
    let sent = net.sent[1];
    net.write(0, &[1; 100]);
    while net.step(START + 5_030_000) {}
    assert_eq!(net.sent[1], sent, "the acknowledgement waits");
    while net.step(START + 5_060_000) {}
    assert_eq!(net.sent[1], sent + 1);
}
