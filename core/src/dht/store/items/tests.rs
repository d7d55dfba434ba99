use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use alloc::{format, vec};

use quickcheck::quickcheck;

use super::*;

const T0: Instant = Instant::from_micros(1_000_000);
const SECRET: [u8; 32] = [7; 32];

fn later(minutes: u64) -> Instant {
    T0 + Duration::from_secs(minutes * 60)
}

fn store(max: u32) -> ItemStore {
    ItemStore::new((1, 2), max)
}

fn immutable(v: &[u8]) -> Item<'_> {
    Item {
        v: Some(v),
        ..Item::default()
    }
}

/// A signed item, owned.
#[derive(Clone)]
struct Signed {
    v: Vec<u8>,
    k: [u8; 32],
    sig: [u8; 64],
    seq: i64,
}

fn sign(text: &str, seq: i64) -> Signed {
    let v = format!("{}:{text}", text.len()).into_bytes();
    let sig = item::sign(&SECRET, b"", seq, &v).unwrap();
    let k = item::public_key(&SECRET);
    Signed { v, k, sig, seq }
}

impl Signed {
    fn item(&self) -> Item<'_> {
        Item {
            v: Some(&self.v),
            k: Some(&self.k),
            sig: Some(&self.sig),
            seq: Some(self.seq),
            ..Item::default()
        }
    }
}

fn refused(refusal: Refusal) -> Result<NodeId, PutError> {
    Err(PutError::Refused(refusal))
}

#[test]
fn what_is_put_can_be_got() {
    let mut s = store(9);
    let hello = immutable(b"12:Hello World!");
    let target = s.put(T0, &hello).unwrap();
    assert_eq!(
        format!("{target}"),
        "e5f96f6f38320f0f33959cb4d3d656452117aadb",
        "the vector of BEP 44"
    );
    let one = sign("one", 1);
    let mutable = s.put(T0, &one.item()).unwrap();
    let got = s.get(&target).unwrap();
    assert_eq!(
        (got.v, got.k, got.seq),
        (&b"12:Hello World!"[..], None, None)
    );
    let got = s.get(&mutable).unwrap();
    assert_eq!(
        (got.v, got.k, got.sig),
        (&one.v[..], Some(&one.k), Some(&one.sig))
    );
    assert_eq!((got.seq, s.count()), (Some(1), 2));
    assert_eq!(s.get(&NodeId([0; 20])), None);
}

#[test]
fn only_newer_versions_replace() {
    let mut s = store(9);
    let two = sign("two", 2);
    let target = s.put(T0, &two.item()).unwrap();
    assert_eq!(s.put(T0, &sign("one", 1).item()), refused(Refusal::Old));
    assert_eq!(s.put(T0, &sign("other", 2).item()), refused(Refusal::Old));
    assert_eq!(s.put(T0, &two.item()), Ok(target), "the same again");
    let three = sign("three", 3);
    let mut cas = three.item();
    cas.cas = Some(1);
    assert_eq!(s.put(T0, &cas), refused(Refusal::CasMismatch));
    cas.cas = Some(2);
    assert_eq!(s.put(T0, &cas), Ok(target));
    assert_eq!((s.get(&target).unwrap().seq, s.count()), (Some(3), 1));
}

#[test]
fn nothing_unsound_is_kept() {
    let mut s = store(9);
    let good = sign("good", 5);
    let target = s.put(T0, &good.item()).unwrap();
    let mut forged = sign("evil", 6);
    forged.sig[9] ^= 1;
    assert_eq!(s.put(T0, &forged.item()), refused(Refusal::BadSignature));
    let mut resigned = good.clone();
    resigned.sig[9] ^= 1;
    assert_eq!(s.put(T0, &resigned.item()), refused(Refusal::BadSignature));
    let mut negative = good.item();
    negative.seq = Some(-1);
    assert_eq!(s.put(T0, &negative), refused(Refusal::Malformed));
    let mut malformed = good.item();
    malformed.malformed = true;
    assert_eq!(s.put(T0, &malformed), refused(Refusal::Malformed));
    let mut salted = good.item();
    salted.salt = Some(&[1; 65]);
    assert_eq!(s.put(T0, &salted), refused(Refusal::SaltTooBig));
    let long = [&b"997:"[..], &[b'x'; 997]].concat();
    assert_eq!(s.put(T0, &immutable(&long)), refused(Refusal::TooBig));
    assert_eq!(
        s.put(T0, &immutable(b"d1:bi1e1:ai2ee")),
        refused(Refusal::Malformed)
    );
    assert_eq!(s.put(T0, &Item::default()), refused(Refusal::Malformed));
    assert_eq!(s.get(&target).unwrap().v, good.v);
    assert_eq!(s.count(), 1);
    assert!(
        s.put(T0, &immutable(&[&b"996:"[..], &[b'x'; 996]].concat()))
            .is_ok()
    );
}

#[test]
fn an_item_is_kept_for_two_hours_after_its_last_put() {
    let mut s = store(9);
    let one = sign("one", 1);
    let kept = s.put(T0, &one.item()).unwrap();
    let target = s.put(T0, &immutable(b"i1e")).unwrap();
    s.put(later(60), &one.item()).unwrap();
    s.expire(later(119));
    assert_eq!(s.count(), 2);
    s.expire(later(129));
    assert_eq!((s.get(&target), s.count()), (None, 1));
    s.expire(later(179));
    assert!(s.get(&kept).is_some());
    let due = s.next_expiry().unwrap();
    assert!(due >= later(180) && due <= later(189));
    s.expire(due);
    assert_eq!((s.count(), s.next_expiry()), (0, None));
}

#[test]
fn a_full_store_keeps_what_is_close() {
    let mut s = store(20);
    let own = s.put(T0, &immutable(b"4:self")).unwrap();
    s.set_own(own);
    let mut refusals = 0;
    for n in 0..2000 {
        let v = format!("i{n}e");
        match s.put(T0, &immutable(v.as_bytes())) {
            Ok(target) => assert!(s.get(&target).is_some()),
            Err(error) => {
                assert_eq!((error, error.code()), (PutError::Full, 202));
                refusals += 1;
            }
        }
        assert!(s.count() <= 20);
    }
    assert!(refusals > 1500 && s.get(&own).is_some(), "{refusals}");
}

#[test]
fn a_store_without_places_takes_nothing() {
    let mut s = store(0);
    assert_eq!(s.put(T0, &immutable(b"i1e")), Err(PutError::Full));
    assert_eq!((s.count(), s.next_expiry()), (0, None));
}

quickcheck! {
    /// Any order of versions leaves the newest, as a naive store has it.
    fn agrees_with_a_naive_store(puts: Vec<(u8, i8, Option<i8>, u8)>) -> bool {
        let mut s = store(100);
        let mut model: BTreeMap<NodeId, (i64, Vec<u8>)> = BTreeMap::new();
        puts.into_iter().take(20).all(|(value, seq, cas, salt)| {
            let (seq, cas) = (i64::from(seq % 4), cas.map(|cas| i64::from(cas % 4)));
            let (v, salt) = (format!("i{}e", value % 3).into_bytes(), vec![b's'; usize::from(salt % 2)]);
            let sig = item::sign(&SECRET, &salt, seq, &v).unwrap_or([0; 64]);
            let k = item::public_key(&SECRET);
            let put = Item {
                v: Some(&v),
                k: Some(&k),
                sig: Some(&sig),
                seq: Some(seq),
                cas,
                salt: Some(&salt),
                malformed: false,
            };
            let target = item::mutable_target(&k, &salt);
            let expect = if seq < 0 {
                refused(Refusal::Malformed)
            } else {
                match model.get(&target) {
                    Some((kept, _)) if cas.is_some_and(|cas| cas != *kept) => {
                        refused(Refusal::CasMismatch)
                    }
                    Some((kept, old)) if seq < *kept || seq == *kept && *old != v => {
                        refused(Refusal::Old)
                    }
                    _ => Ok(target),
                }
            };
            let result = s.put(T0, &put);
            if expect.is_ok() {
                model.insert(target, (seq, v.clone()));
            }
            result == expect
                && model.iter().all(|(target, (seq, v))| {
                    s.get(target).is_some_and(|got| got.seq == Some(*seq) && got.v == *v)
                })
        })
    }
}
