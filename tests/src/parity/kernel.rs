//! A Linux router between two TUN devices, and what it does with scripts.
//!
//! A packet that is written to a TUN device is routed, filtered and translated; a fence, one
//! untracked packet each way, tells when that is done. Expired entries are collected before each
//! burst: the kernel does so at its leisure, and until then lets them decide which port a new
//! flow of the same sender gets.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dunlin_sim::Packet;
use smoltcp::phy::{self, Device, Medium, RxToken, TunTapInterface, TxToken};

use super::Fate;
use super::compare::{Side, fate};
use super::model::Model;
use super::script::{Place, Script, Send};
use super::table::{self, Table};
use crate::lab::Lab;

/// How late a packet may be sent. With [`super::model::MARGIN`] it keeps every pause half a
/// second away from every threshold.
const LATE: Duration = Duration::from_millis(250);
/// How long a fence may take.
const FENCE_LIMIT: Duration = Duration::from_secs(10);
/// Fences go between these.
const FENCE_LAN: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 2);
const FENCE_WAN: Ipv4Addr = Ipv4Addr::new(20, 255, 0, 2);

/// What came of a script.
#[derive(Clone, Debug)]
pub struct Run {
    /// Of each event.
    pub fates: Vec<Fate>,
    /// When each packet was sent, since the script began.
    pub times: Vec<Duration>,
    /// The flows after each event, and when they were looked at.
    pub tables: Vec<Table>,
    /// When they were looked at.
    pub looked: Vec<Duration>,
    /// Whether one was sent so late that a timeout may have come in between.
    pub late: bool,
}

/// Puts scripts through one router, all at the same time.
///
/// # Panics
/// When there can be no router: root, `ip`, `nft` and TUN are needed.
pub fn run(model: &Model, scripts: &[Script]) -> Vec<Run> {
    let lab = Lab::bare();
    lab.inside(|| Router::new(model, scripts.len() as u16).run(scripts))
}

/// The timers of connection tracking in a namespace that nobody has changed, in seconds and by name.
///
/// # Panics
/// When there can be no namespace, or no connection tracking in it.
pub fn conntrack_timeouts() -> Vec<(String, u64)> {
    let lab = Lab::bare();
    lab.inside(|| {
        let folder = fs::read_dir("/proc/sys/net/netfilter").expect("connection tracking");
        let mut all: Vec<(String, u64)> = folder
            .filter_map(|entry| {
                let path = entry.expect("an entry").path();
                let name = path.file_name()?.to_str()?;
                let name = name.strip_prefix("nf_conntrack_")?.to_owned();
                // How long fragments of IPv6 wait is not about flows.
                if !name.contains("_timeout") || name.starts_with("frag6") {
                    return None;
                }
                let value = fs::read_to_string(&path).expect("a readable timer");
                Some((name, value.trim().parse().expect("seconds")))
            })
            .collect();
        all.sort();
        all
    })
}

struct Router {
    lan: TunTapInterface,
    wan: TunTapInterface,
    fences: u32,
    v6: bool,
}

impl Router {
    /// In the namespace of the calling thread.
    fn new(model: &Model, places: u16) -> Self {
        let tun = |name| {
            TunTapInterface::new(name, Medium::Ip)
                .unwrap_or_else(|e| panic!("no TUN device (/dev/net/tun, root): {e}"))
        };
        let (lan, wan) = (tun("lan"), tun("wan"));
        for (key, value) in model.sysctls() {
            let path = format!("/proc/sys/net/{key}");
            fs::write(path, value).unwrap_or_else(|e| panic!("net/{key}: {e}"));
        }
        let mut batch = String::from(
            "link set lan up\nlink set wan up\n\
             route add 10.0.0.0/8 dev lan\nroute add 20.255.0.0/16 dev wan\n\
             route add fd10::/16 dev lan\nroute add fd20::/16 dev wan\n",
        );
        for number in 0..places {
            let place = Place { number, v6: false };
            batch += &format!(
                "addr add {}/24 dev wan\naddr add {}/24 dev lan\n",
                place.public(),
                place.gateway()
            );
        }
        feed("ip", &["-batch", "-"], &batch);
        let fences = format!("{FENCE_LAN}, {FENCE_WAN}");
        feed("nft", &["-f", "-"], &model.ruleset(places, &fences));
        Self {
            lan,
            wan,
            fences: 0,
            v6: model.v6,
        }
    }

    fn run(&mut self, scripts: &[Script]) -> Vec<Run> {
        let mut runs: Vec<Run> = scripts
            .iter()
            .map(|script| Run {
                fates: Vec::with_capacity(script.events.len()),
                times: Vec::with_capacity(script.events.len()),
                tables: Vec::with_capacity(script.events.len()),
                looked: Vec::with_capacity(script.events.len()),
                late: false,
            })
            .collect();
        // One packet of each script in a round.
        let mut rounds: BTreeMap<(u32, usize), Vec<usize>> = BTreeMap::new();
        for (s, script) in scripts.iter().enumerate() {
            for (i, event) in script.events.iter().enumerate() {
                let first = script.events.partition_point(|e| e.at < event.at);
                rounds.entry((event.at, i - first)).or_default().push(s);
            }
        }
        let mut outs: Vec<Vec<Option<Packet>>> = vec![Vec::new(); scripts.len()];
        let began = Instant::now();
        let mut last = None;
        for ((at, _), members) in rounds {
            if last.replace(at) != Some(at) {
                let due = Duration::from_millis(at.into());
                thread::sleep(due.saturating_sub(began.elapsed()));
                listing();
            }
            let mut sent = BTreeMap::new();
            let mut came = Vec::new();
            for &s in &members {
                let (script, run) = (&scripts[s], &mut runs[s]);
                let i = run.fates.len();
                let event = &script.events[i];
                let time = began.elapsed();
                run.late |= time > Duration::from_millis(event.at.into()) + LATE;
                run.times.push(time);
                let packet = script
                    .ends(self.place(s), i, |k| run.fates[k].port())
                    .and_then(|ends| script.packet(i, ends, script.quote(i, &outs[s])));
                let Some(packet) = packet else {
                    run.fates.push(Fate::Unsent);
                    continue;
                };
                let device = match event.send {
                    Send::In(..) => &mut self.wan,
                    Send::Out(..) | Send::Hairpin(..) => &mut self.lan,
                };
                send(device, packet.bytes());
                self.drain(&mut came);
                sent.insert(s, packet);
            }
            self.fence(&mut came);
            let mut tables = table::kernel(&listing());
            let looked = began.elapsed();
            let mut by_script: BTreeMap<usize, Vec<(Side, Packet)>> = BTreeMap::new();
            for (side, packet) in came {
                let Some(s) = whose(&packet).filter(|s| sent.contains_key(s)) else {
                    panic!("nobody's packet came out: {packet:?}");
                };
                by_script.entry(s).or_default().push((side, packet));
            }
            for s in members {
                let came = by_script.remove(&s).unwrap_or_default();
                if let Some(sent) = sent.get(&s) {
                    let event = &scripts[s].events[runs[s].fates.len()];
                    let fate = fate(self.place(s), event, sent, &came);
                    runs[s].fates.push(fate);
                }
                outs[s].push(came.into_iter().next().map(|(_, packet)| packet));
                runs[s]
                    .tables
                    .push(tables.remove(&(s as u16)).unwrap_or_default());
                runs[s].looked.push(looked);
            }
        }
        runs
    }

    /// Where a script lives.
    const fn place(&self, script: usize) -> Place {
        Place {
            number: script as u16,
            v6: self.v6,
        }
    }

    /// Whatever has come out so far.
    fn drain(&mut self, came: &mut Vec<(Side, Packet)>) {
        for (side, device) in [(Side::Lan, &mut self.lan), (Side::Wan, &mut self.wan)] {
            while let Some(packet) = receive(device) {
                came.extend(packet.map(|packet| (side, packet)));
            }
        }
    }

    /// Waits until all that was written has been seen to.
    fn fence(&mut self, came: &mut Vec<(Side, Packet)>) {
        self.fences += 1;
        let [inside, outside] = [FENCE_LAN, FENCE_WAN].map(|ip| SocketAddr::from((ip, 9)));
        let number = self.fences.to_be_bytes();
        send(&mut self.lan, Packet::udp(inside, outside, &number).bytes());
        send(&mut self.wan, Packet::udp(outside, inside, &number).bytes());
        let deadline = Instant::now() + FENCE_LIMIT;
        for (side, device) in [(Side::Lan, &mut self.lan), (Side::Wan, &mut self.wan)] {
            loop {
                match receive(device) {
                    Some(Some(packet)) => {
                        let from = packet.flow().src;
                        if from != inside && from != outside {
                            came.push((side, packet));
                        } else if packet.payload() == number {
                            break;
                        }
                    }
                    Some(None) => {}
                    None => {
                        let left = deadline.saturating_duration_since(Instant::now());
                        assert!(!left.is_zero(), "a fence did not come out of {side:?}");
                        phy::wait(device.as_raw_fd(), Some(left.into())).expect("poll");
                    }
                }
            }
        }
    }
}

/// The kernel's table. Reading it makes the kernel forget what has expired, as it does with what it
/// meets while it lists.
fn listing() -> String {
    fs::read_to_string("/proc/thread-self/net/nf_conntrack").expect("the conntrack table (root)")
}

/// Which script a packet belongs to, by its receiver.
fn whose(packet: &Packet) -> Option<usize> {
    Place::of(packet.flow().dst.ip()).map(|place| place.number.into())
}

fn send(device: &mut TunTapInterface, bytes: &[u8]) {
    let token = device
        .transmit(smoltcp::time::Instant::ZERO)
        .expect("a TUN device always has a token");
    token.consume(bytes.len(), |buffer| buffer.copy_from_slice(bytes));
}

/// `None` if nothing waits; `Some(None)` for a packet of the kernel itself, to many receivers.
fn receive(device: &mut TunTapInterface) -> Option<Option<Packet>> {
    let (token, _) = device.receive(smoltcp::time::Instant::ZERO)?;
    let packet = token.consume(|bytes| Packet::parse(bytes.to_vec()).ok());
    Some(packet.filter(|packet| !packet.flow().dst.ip().is_multicast()))
}

/// Runs a program with this input.
fn feed(program: &str, args: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin
        .write_all(input.as_bytes())
        .expect("the program reads");
    drop(stdin);
    let done = child.wait_with_output().expect("our child");
    assert!(
        done.status.success(),
        "{program}: {}\n{input}",
        String::from_utf8_lossy(&done.stderr)
    );
}
