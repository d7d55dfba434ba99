use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1_000)
}

/// Offers `count` packets of 1 000 bytes, one each `gap`, and returns their fates.
fn arrivals(config: &Direction, count: usize, gap: Duration) -> Vec<Fate> {
    let mut line = Line::new(3);
    let mut now = at(0);
    (0..count)
        .map(|_| {
            let fate = line.offer(config, now, 1_000);
            now += gap;
            fate
        })
        .collect()
}

fn dropped(fates: &[Fate], rule: Rule) -> usize {
    fates.iter().filter(|f| **f == Fate::Dropped(rule)).count()
}

#[test]
fn bandwidth_spaces_packets_and_the_queue_is_finite() {
    let mut config = Direction::delayed(10 * MS);
    // One packet takes 8 ms; four may wait or be on their way out.
    config.rate = Some(Rate {
        bits_per_second: 1_000_000,
        queue: 4_000,
    });
    let fates = arrivals(&config, 6, Duration::ZERO);
    for (n, fate) in fates[..4].iter().enumerate() {
        let Fate::Arrives { at: when, .. } = fate else {
            panic!("packet {n} was dropped");
        };
        assert_eq!(*when, at(18 + 8 * n as u64));
    }
    assert_eq!(dropped(&fates[4..], Rule::LinkQueueFull), 2);
    let mut line = Line::new(3);
    assert_eq!(line.backlog(&config, at(0)), 0);
    let _ = line.offer(&config, at(0), 1_000);
    assert_eq!(line.backlog(&config, at(4)), 500);
    // Nothing waits when packets come as fast as they are sent.
    assert_eq!(
        dropped(&arrivals(&config, 100, 8 * MS), Rule::LinkQueueFull),
        0
    );
}

#[test]
fn what_waits_goes_on_at_the_new_rate() {
    let rate = |bits_per_second| Rate {
        bits_per_second,
        queue: 100_000,
    };
    let mut config = Direction::delayed(10 * MS);
    config.rate = Some(rate(80_000));
    // Ten packets take a tenth of a second each.
    let mut line = Line::new(3);
    for _ in 0..10 {
        let _ = line.offer(&config, at(0), 1_000);
    }
    let old = config.rate;
    config.rate = Some(rate(8_000_000));
    let pace = line.change(old, config.rate, at(500)).expect("bytes wait");
    assert_eq!(line.backlog(&config, at(500)), 5_000);
    // Four packets are left. What would have taken half a second takes five milliseconds now.
    let nanos = |ms: u64| at(ms).as_micros() * 1_000;
    assert_eq!(pace.sent(nanos(400)), nanos(400));
    assert_eq!(pace.sent(nanos(1_000)), nanos(505));
    line.keep_order_from(at(515));
    let Fate::Arrives { at: next, .. } = line.offer(&config, at(500), 1_000) else {
        panic!("dropped");
    };
    assert_eq!(next, at(516));
    // The same bytes take longer when the rate is lower again.
    let pace = line.change(config.rate, old, at(503)).expect("bytes wait");
    assert_eq!(line.backlog(&config, at(503)) / 100, 3_000);
    assert_eq!(pace.sent(nanos(506)), nanos(803));
    // Without a limit nothing waits.
    let pace = line.change(old, None, at(600)).expect("bytes wait");
    assert_eq!(pace.sent(nanos(803)), nanos(600));
    assert_eq!(line.change(None, old, at(600)), None);
}

#[test]
fn a_packet_longer_than_the_queue_goes_when_the_line_is_idle() {
    let mut config = Direction::delayed(MS);
    config.rate = Some(Rate {
        bits_per_second: 1_000_000,
        queue: 100,
    });
    assert_eq!(
        dropped(&arrivals(&config, 10, 8 * MS), Rule::LinkQueueFull),
        0
    );
    assert_eq!(
        dropped(&arrivals(&config, 10, 4 * MS), Rule::LinkQueueFull),
        5
    );
}

#[test]
fn parts_of_a_microsecond_add_up() {
    let mut config = Direction::delayed(Duration::ZERO);
    // 1 000 bytes take 0.8 µs.
    config.rate = Some(Rate::buffered(10_000_000_000, 100 * MS));
    let fates = arrivals(&config, 1_000, Duration::ZERO);
    let Some(Fate::Arrives { at: last, .. }) = fates.last() else {
        panic!("dropped");
    };
    assert_eq!(last.saturating_since(at(0)), Duration::from_micros(800));
}

#[test]
fn random_loss_is_as_frequent_as_configured() {
    let mut config = Direction::delayed(MS);
    config.loss = Loss::Random(10_000);
    let lost = dropped(&arrivals(&config, 100_000, MS), Rule::LinkLost);
    assert!((900..1_100).contains(&lost), "{lost}");
}

#[test]
fn bursts_come_in_bursts() {
    let mut config = Direction::delayed(MS);
    config.loss = Loss::Burst {
        worsen: 10_000,
        mend: 100_000,
        good: 0,
        bad: 1_000_000,
    };
    let fates = arrivals(&config, 100_000, MS);
    // One packet in eleven meets the bad state, which lasts for ten packets on average.
    let lost = dropped(&fates, Rule::LinkLost);
    assert!((8_000..10_200).contains(&lost), "{lost}");
    let is_lost = |f: &Fate| matches!(f, Fate::Dropped(_));
    let bursts = fates
        .windows(2)
        .filter(|w| !is_lost(&w[0]) && is_lost(&w[1]))
        .count();
    assert!((8..12).contains(&(lost / bursts)), "{lost} in {bursts}");
}

#[test]
fn duplicates_and_flips_are_as_frequent_as_configured() {
    let mut config = Direction::delayed(MS);
    config.duplicate_ppm = 50_000;
    config.corrupt_ppm = 20_000;
    let fates = arrivals(&config, 100_000, MS);
    let count = |want: fn(&Fate) -> bool| fates.iter().filter(|f| want(f)).count();
    let twice = count(|f| matches!(f, Fate::Arrives { again: Some(_), .. }));
    let flipped = count(|f| matches!(f, Fate::Arrives { flip: Some(_), .. }));
    assert!((4_700..5_300).contains(&twice), "{twice}");
    assert!((1_850..2_150).contains(&flipped), "{flipped}");
}

#[test]
fn reordering_lets_some_be_overtaken() {
    let mut config = Direction::delayed(MS);
    config.reorder_ppm = 100_000;
    config.reorder_by = 20 * MS;
    let times: Vec<Instant> = arrivals(&config, 10_000, MS)
        .iter()
        .filter_map(|f| match f {
            Fate::Arrives { at, .. } => Some(*at),
            Fate::Dropped(_) => None,
        })
        .collect();
    let overtaken = times.windows(2).filter(|w| w[0] > w[1]).count();
    assert!((700..1_000).contains(&overtaken), "{overtaken}");
}

#[test]
fn presets_have_their_names_and_only_the_perfect_ones_are_steady() {
    for (name, preset) in LinkConfig::PRESETS {
        assert_eq!(LinkConfig::preset(name), Some(preset()));
        assert_eq!(preset().up.steady().is_some(), *name == "perfect", "{name}");
    }
    assert_eq!(LinkConfig::preset("string"), None);
}

/// A direction that delays packets at random, with or without a rate.
#[derive(Clone, Debug)]
struct Jittery(Direction);

impl Arbitrary for Jittery {
    fn arbitrary(g: &mut Gen) -> Self {
        let delays = [
            Delay::Uniform {
                from: MS,
                to: 50 * MS,
            },
            Delay::Normal {
                mean: 20 * MS,
                deviation: 20 * MS,
            },
            Delay::Pareto {
                least: MS,
                scale: MS,
                tail: Tail::Heavy,
                most: 900 * MS,
            },
        ];
        let mut config = Direction::delayed(MS);
        config.delay = *g.choose(&delays).unwrap();
        config.rate = bool::arbitrary(g).then(|| Rate::buffered(1_000_000, 50 * MS));
        Self(config)
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let mut without_rate = self.0.clone();
        Box::new(
            without_rate
                .rate
                .take()
                .map(|_| Self(without_rate))
                .into_iter(),
        )
    }
}

quickcheck! {
    fn without_reordering_packets_stay_in_order(seed: u64, link: Jittery, packets: Vec<(u16, u16)>) -> bool {
        let (mut line, mut now, mut last) = (Line::new(seed), at(0), at(0));
        for (gap, len) in packets {
            now += Duration::from_micros(gap.into());
            if let Fate::Arrives { at, .. } = line.offer(&link.0, now, usize::from(len % 1_500)) {
                if at < last || at < now {
                    return false;
                }
                last = at;
            }
        }
        true
    }
}
