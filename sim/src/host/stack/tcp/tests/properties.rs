//! Whatever the path does, every byte arrives once and in order, memory is bounded, and the
//! transfer ends.

use super::*;

/// A path of moderate badness from random bytes.
fn path(bytes: [u8; 6]) -> Path {
    let [delay, rate, queue, loss, reorder, duplicate] = bytes.map(u64::from);
    Path {
        delay_us: delay * 500,
        rate: if rate < 64 { 0 } else { rate * 100_000 },
        queue: 3_000 + queue * 1_000,
        loss: loss / 2,
        reorder,
        duplicate: duplicate / 2,
    }
}

fn array(bytes: &[u8], at: usize) -> [u8; 6] {
    std::array::from_fn(|n| bytes.get(at + n).copied().unwrap_or(0))
}

quickcheck! {
    fn no_byte_is_lost_or_reordered(seed: u64, there: Vec<u8>, back: Vec<u8>) -> bool {
        let paths = [path(array(&there, 0)), path(array(&back, 0))];
        let mut net = Net::new(&TcpConfig::default(), paths, seed);
        let bytes = 20_000 + seed % 300_000;
        transfer(&mut net, bytes, Duration::from_secs(3_600)).is_some()
    }

    fn buffers_are_bounded_and_both_ends_finish(seed: u64, there: Vec<u8>, reno: bool) -> bool {
        let algorithm = if reno { Algorithm::Reno } else { Algorithm::Cubic };
        let buffer = 20_000 + seed % 100_000;
        let config = TcpConfig { algorithm, buffer };
        let paths = [path(array(&there, 0)), path(array(&there, 6))];
        let mut net = Net::new(&config, paths, seed);
        // Both directions at once; the applications read now and then.
        let total = 100_000_usize;
        let (mut written, mut read) = ([0; 2], [0; 2]);
        let until = net.now + 7_200_000_000;
        let mut steps = 0_u64;
        while net.ends.iter().any(|end| end.end().is_none()) {
            for end in 0..2 {
                let len = (total - written[end]).min(5_000);
                let chunk: Vec<u8> = (0..len).map(|n| byte((written[end] + n) as u64)).collect();
                written[end] += net.write(end, &chunk);
                if written[end] == total {
                    net.ends[end].close();
                }
                steps += 1;
                if !steps.is_multiple_of(3) {
                    continue;
                }
                for got in net.read(end, 3_000) {
                    assert_eq!(got, byte(read[end]));
                    read[end] += 1;
                }
                let held = net.ends[end].held();
                assert!(held.iter().all(|held| *held <= buffer), "{held:?} of {buffer}");
            }
            if !net.step(until) {
                break;
            }
        }
        // What has arrived can be read after the end.
        for (end, read) in read.iter_mut().enumerate() {
            *read += net.read(end, usize::MAX).len() as u64;
        }
        read == [total as u64; 2] && net.ends.iter().all(|e| e.end() == Some(End::Closed))
    }

    fn any_segments_are_survived(seed: u64, segments: Vec<(u32, u32, u8, u16, Vec<u8>)>) -> bool {
        let mut net = Net::new(&TcpConfig::default(), [Path::default(); 2], seed);
        while net.step(START + 1_000) {}
        net.write(0, &[1; 9_000]);
        for (seq, ack, flags, window, data) in segments {
            // Near the places that matter, so that some are acceptable.
            for (seq, ack) in [(seq, ack), (78 + seq % 9_000, (u32::MAX - 5_000).wrapping_add(ack % 9_000))] {
                let mut header = Header::new(TcpFlags(flags & 0x1f), seq, ack, window);
                header.add_block((ack.wrapping_add(seq % 3_000), ack.wrapping_add(3_000)));
                let now = net.at();
                net.ends[0].segment(now, &header, &data);
                while net.ends[0].poll(now).is_some() {}
                net.now += u64::from(window);
                let now = net.at();
                net.ends[0].timeout(now);
            }
        }
        true
    }
}
