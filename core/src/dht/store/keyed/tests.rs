use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

const TICK: Duration = Duration::from_secs(1);

/// An id of 256 that differ in their first byte: in eight distances from one another.
fn id(n: u8) -> NodeId {
    let mut id = NodeId([0x5a; 20]);
    id.0[0] = n;
    id
}

fn at(tick: u32) -> Instant {
    Instant::from_micros(u64::from(tick) * 1_000_000)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u8, u8),
    Remove(u8),
    Touch(u8),
    PutOff(u8, u8),
    SetOwn(u8),
    Wait(u8),
    Serve,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let (n, m) = (u8::arbitrary(g) % 64, u8::arbitrary(g));
        match u8::arbitrary(g) % 16 {
            0..6 => Self::Insert(n, m % 40),
            6..8 => Self::Remove(n),
            8 | 9 => Self::Touch(n),
            10 | 11 => Self::PutOff(n, m % 40),
            12 => Self::SetOwn(n),
            13 | 14 => Self::Wait(m % 64),
            _ => Self::Serve,
        }
    }
}

/// What a naive table would hold: deadline and time of last use, by id.
struct Model {
    now: u32,
    uses: u32,
    own: NodeId,
    all: BTreeMap<NodeId, (u32, u32)>,
}

impl Model {
    fn shared(&self, id: &NodeId) -> u32 {
        self.own.common_prefix(id).min(LISTS as u32 - 1)
    }

    /// Of those that share least with our id, the one that was not used for longest.
    fn farthest(&self) -> Option<NodeId> {
        let all = self.all.iter();
        all.min_by_key(|(id, (_, used))| (self.shared(id), *used))
            .map(|(id, _)| *id)
    }
}

fn obeys(steps: &[Step]) -> bool {
    let mut model = Model {
        now: 100,
        uses: 0,
        own: NodeId([0; 20]),
        all: BTreeMap::new(),
    };
    let mut keyed = Keyed::new((1, 2), TICK);
    for step in steps {
        model.uses += 1;
        let (now, uses) = (model.now, model.uses);
        match *step {
            Step::Insert(n, life) => {
                if keyed.find(&id(n)).is_none() {
                    let deadline = now + 1 + u32::from(life);
                    keyed.insert(at(now), id(n), deadline, n);
                    model.all.insert(id(n), (deadline, uses));
                }
            }
            Step::Remove(n) => {
                if let Some(slot) = keyed.find(&id(n)) {
                    assert_eq!(keyed.remove(slot), n);
                    model.all.remove(&id(n));
                }
            }
            Step::Touch(n) => {
                if let Some(slot) = keyed.find(&id(n)) {
                    keyed.touch(slot);
                    if let Some(known) = model.all.get_mut(&id(n)) {
                        known.1 = uses;
                    }
                }
            }
            Step::PutOff(n, life) => {
                if let Some(slot) = keyed.find(&id(n)) {
                    let deadline = now + 1 + u32::from(life);
                    keyed.put_off(slot, deadline);
                    if let Some(known) = model.all.get_mut(&id(n)) {
                        known.0 = deadline;
                    }
                }
            }
            Step::SetOwn(n) => {
                keyed.set_own(id(n));
                // The order of use is lost: here as there, all are used again, by slot.
                if model.own != id(n) {
                    for slot in 0..keyed.len() as u32 {
                        model.uses += 1;
                        if let Some(known) = model.all.get_mut(&keyed.slot(slot).id) {
                            known.1 = model.uses;
                        }
                    }
                    model.own = id(n);
                }
            }
            Step::Wait(ticks) => model.now += u32::from(ticks),
            Step::Serve => {
                let (mut looks, most) = (0, 3 * model.all.len());
                while let Some(slot) = keyed.pop_due(at(now)) {
                    looks += 1;
                    // One turn of the wheel, and one more look at what was put off into it.
                    assert!(looks <= most, "spins");
                    let id = keyed.slot(slot).id;
                    let due = model.all.get(&id).is_some_and(|(at, _)| *at <= now);
                    assert_eq!(keyed.is_due(at(now), slot), due);
                    if due {
                        keyed.remove(slot);
                        model.all.remove(&id);
                    } else {
                        keyed.wait(slot);
                    }
                }
                // Nothing due was passed over, and the next look is later.
                if model.all.values().any(|(deadline, _)| *deadline <= now)
                    || keyed.next_due().is_some_and(|due| due <= at(now))
                {
                    return false;
                }
            }
        }
        let farthest = keyed.farthest().map(|slot| keyed.slot(slot).id);
        let next_due = keyed.next_due();
        let first = model.all.values().map(|(deadline, _)| *deadline).min();
        if keyed.len() != model.all.len()
            || farthest != model.farthest()
            || next_due.is_some() != first.is_some()
            || next_due > first.map(|tick| at(tick.max(model.now)))
            || !model.all.keys().all(|id| keyed.find(id).is_some())
        {
            return false;
        }
    }
    true
}

quickcheck! {
    fn agrees_with_a_naive_table(steps: Vec<Step>) -> bool {
        obeys(&steps)
    }
}

#[test]
fn after_a_long_sleep_one_turn_of_the_wheel_finds_all() {
    let mut keyed = Keyed::new((1, 2), TICK);
    for n in 0..200 {
        keyed.insert(at(5), id(n), 6 + u32::from(n % 30), n);
    }
    let late = at(1_000_000);
    for _ in 0..200 {
        let slot = keyed.pop_due(late).unwrap();
        keyed.remove(slot);
    }
    assert_eq!((keyed.pop_due(late), keyed.next_due()), (None, None));
}

#[test]
fn a_flood_that_is_over_gives_its_memory_back() {
    let mut keyed = Keyed::new((1, 2), TICK);
    for n in 0..5000_u32 {
        let mut id = id(0);
        id.0[1..5].copy_from_slice(&n.to_be_bytes());
        keyed.insert(at(1), id, 9, n);
    }
    assert!(keyed.slots.capacity() < 5000 + 5000 / 8);
    while keyed.len() > 100 {
        keyed.remove(0);
    }
    assert!(keyed.slots.capacity() <= 400 && keyed.index.capacity() <= 1000);
}
