use alloc::{format, vec, vec::Vec};

use quickcheck::quickcheck;

use super::*;
use crate::{id::PeerId, wire::tracker::AnnounceEvent};

fn request() -> AnnounceRequest {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&[0x12, 0xff, b'a', b'~']);
    AnnounceRequest {
        info_hash: InfoHash(hash),
        peer_id: PeerId(*b"-DU0100-abcdefghijkl"),
        downloaded: 2,
        uploaded: 1,
        left: 3,
        event: AnnounceEvent::None,
        key: 0xbeef,
        numwant: None,
        port: 6881,
        crypto: Crypto::Plain,
        ipv4: None,
        ipv6: None,
    }
}

#[test]
fn announce_url_is_bep_3() {
    let hash = format!("%12%FFa~{}", "%00".repeat(16));
    assert_eq!(
        announce_url("http://t/announce", &request(), None),
        format!(
            "http://t/announce?info_hash={hash}&peer_id=-DU0100-abcdefghijkl&port=6881\
             &uploaded=1&downloaded=2&left=3&key=0000beef&compact=1&no_peer_id=1"
        )
    );
}

#[test]
fn announce_url_carries_what_is_given() {
    let mut r = request();
    r.event = AnnounceEvent::Stopped;
    r.numwant = Some(0);
    r.crypto = Crypto::Required;
    r.ipv4 = Some([10, 0, 0, 1].into());
    r.ipv6 = "2001:db8::1".parse().ok();
    let url = announce_url("http://t/a?passkey=x%20y#frag", &r, Some(b"a b&c"));
    assert!(
        url.starts_with("http://t/a?passkey=x%20y&info_hash=%12"),
        "{url}"
    );
    assert!(
        url.ends_with(
            "&numwant=0&event=stopped&requirecrypto=1&ipv4=10.0.0.1\
             &ipv6=2001%3Adb8%3A%3A1&trackerid=a%20b%26c"
        ),
        "{url}"
    );
    r.crypto = Crypto::Supported;
    assert!(announce_url("http://t/a?", &r, None).contains("a?info_hash="));
    assert!(announce_url("http://t/a", &r, None).contains("&supportcrypto=1"));
}

#[test]
fn scrape_url_follows_the_examples_of_bep_48() {
    for (announce, scrape) in [
        (
            "http://example.com/announce",
            Some("http://example.com/scrape"),
        ),
        (
            "http://example.com/x/announce",
            Some("http://example.com/x/scrape"),
        ),
        (
            "http://example.com/announce.php",
            Some("http://example.com/scrape.php"),
        ),
        ("http://example.com/a", None),
        (
            "http://example.com/announce?x2%0644",
            Some("http://example.com/scrape?x2%0644"),
        ),
        ("http://example.com/announce?x=2/4", None),
        ("http://example.com/x%064announce", None),
    ] {
        assert_eq!(scrape_url(announce, &[]).as_deref(), scrape);
    }
    let hash = [InfoHash([b'h'; 20])];
    assert_eq!(
        scrape_url("http://t/announce?k=1", &hash),
        Some(format!("http://t/scrape?k=1&info_hash={}", "h".repeat(20)))
    );
}

#[test]
fn every_field_of_an_answer_is_read() {
    let mut body = b"d8:completei7e10:downloadedi9e11:external ip4:\x01\x02\x03\x04\
        10:incompletei8e8:intervali1800e12:min intervali60e5:peers6:\x0a\x00\x00\x01\x1a\xe1\
        6:peers618:"
        .to_vec();
    body.extend([
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80,
    ]);
    body.extend(b"10:tracker id3:\x00id15:warning message4:soon");
    body.extend(b"e\n");
    let answer = parse_announce(200, &body).unwrap();
    assert_eq!(
        answer,
        AnnounceAnswer {
            interval: Some(Duration::from_secs(1800)),
            min_interval: Some(Duration::from_secs(60)),
            tracker_id: Some(b"\x00id".to_vec()),
            warning: Some("soon".into()),
            complete: Some(7),
            incomplete: Some(8),
            downloaded: Some(9),
            external_ip: Some([1, 2, 3, 4].into()),
            peers: vec![
                "10.0.0.1:6881".parse().unwrap(),
                "[2001:db8::1]:80".parse().unwrap()
            ],
        }
    );
}

#[test]
fn dictionary_peers_are_read_and_names_are_not_looked_up() {
    let body = b"d8:intervali9e5:peersl\
        d2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
        d2:ip9:localhost4:porti1ee\
        d2:ip11:2001:db8::14:porti2ee\
        d2:ip8:10.0.0.24:porti70000ee\
        i3eee";
    assert_eq!(
        parse_announce(200, body).unwrap().peers,
        [
            "10.0.0.1:6881".parse().unwrap(),
            "[2001:db8::1]:2".parse().unwrap()
        ]
    );
}

#[test]
fn peers_that_are_none_leave_the_rest_of_the_answer() {
    for peers in ["de", "d4:host9:127.0.0.1e", "i1e", "i-1e"] {
        let body = format!("d8:intervali1800e5:peers{peers}6:peers60:e");
        let answer = parse_announce(200, body.as_bytes()).unwrap();
        assert_eq!(answer.peers, [], "{peers}");
        assert_eq!(answer.interval, Some(Duration::from_secs(1800)), "{peers}");
    }
    let v6 = b"d5:peersde6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e";
    let answer = parse_announce(200, v6).unwrap();
    assert_eq!(answer.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
}

#[test]
fn the_number_of_peers_is_bounded() {
    let list = [10, 0, 0, 1, 1, 1].repeat(3000);
    let mut body = format!("d5:peers{}:", list.len()).into_bytes();
    body.extend(&list);
    let list6 = [0xfd; 18].repeat(3);
    body.extend(format!("6:peers6{}:", list6.len()).into_bytes());
    body.extend(&list6);
    body.push(b'e');
    assert_eq!(parse_announce(200, &body).unwrap().peers.len(), MAX_PEERS);
}

#[test]
fn refusals_are_heard_whatever_the_status() {
    let failure = |retry, tail: &str| {
        let body = format!("d14:failure reason4:nope{tail}e");
        let expected = TrackerError::Failure {
            reason: "nope".into(),
            retry,
        };
        assert_eq!(parse_announce(400, body.as_bytes()), Err(expected.clone()));
        assert_eq!(parse_scrape(200, body.as_bytes(), &[]), Err(expected));
    };
    failure(None, "");
    failure(Some(Retry::Never), "8:retry in5:never");
    let ten = Some(Retry::After(Duration::from_secs(600)));
    failure(ten, "8:retry in2:10");
    failure(ten, "8:retry ini10e");
    failure(None, "8:retry in4:soon");
}

#[test]
fn what_is_no_answer_is_shown() {
    assert_eq!(parse_announce(503, b"busy"), Err(TrackerError::Http(503)));
    let error = parse_announce(200, b"<html>\r\n<title>Login</title>").unwrap_err();
    assert_eq!(
        format!("{error}"),
        "the answer makes no sense: not a bencoded dictionary; \
         it begins \"<html>  <title>Login</title>\""
    );
    let error = parse_announce(200, b"").unwrap_err();
    assert_eq!(format!("{error}"), "the answer makes no sense: empty");
}

#[test]
fn scrape_answers_are_matched_by_hash() {
    let mut body = b"d5:filesd20:".to_vec();
    body.extend([7; 20]);
    body.extend(b"d8:completei1e10:downloadedi2e10:incompletei3eee");
    body.extend(b"5:flagsd20:min_request_intervali900eee");
    let asked = [InfoHash([6; 20]), InfoHash([7; 20])];
    let answer = parse_scrape(200, &body, &asked).unwrap();
    let file = ScrapeFile {
        complete: 1,
        downloaded: 2,
        incomplete: 3,
    };
    assert_eq!(answer.files, [None, Some(file)]);
    assert_eq!(answer.min_interval, Some(Duration::from_secs(900)));
    assert!(parse_scrape(200, b"de", &asked).is_err());
}

#[test]
fn negative_and_huge_numbers_do_no_harm() {
    let answer = parse_announce(200, b"d8:intervali-5e8:completei99999999999ee").unwrap();
    assert_eq!(answer.interval, None);
    assert_eq!(answer.complete, Some(u32::MAX));
}

quickcheck! {
    /// Law 6: hostile bytes never panic.
    fn any_body_is_survived(body: Vec<u8>) -> bool {
        let mut dict = b"d5:peers".to_vec();
        dict.extend(format!("{}:", body.len()).into_bytes());
        dict.extend(&body);
        dict.push(b'e');
        let whole = parse_announce(200, &dict).unwrap().peers.len() <= body.len() / 6;
        dict.truncate(dict.len().saturating_sub(usize::from(body.first().copied().unwrap_or(1))));
        let _ = parse_announce(200, &dict);
        let _ = parse_scrape(200, &dict, &[InfoHash([0; 20])]);
        whole && parse_announce(200, &body).is_err()
    }
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let retry = |body: &str| match parse_announce(200, body.as_bytes()) {
        Err(TrackerError::Failure { retry, .. }) => retry,
        other => panic!("{other:?}"),
    };
    let after = |secs| Some(Retry::After(Duration::from_secs(secs)));
    for (rest, wanted) in [
        ("e", None),
        ("8:intervali7200ee", after(7200)),
        ("12:min intervali900ee", after(900)),
        ("8:intervali60e12:min intervali900ee", after(900)),
        ("8:intervali0ee", None),
        // BEP 31 has the last word.
        ("8:intervali7200e8:retry in1:5e", after(300)),
        ("8:intervali7200e8:retry in5:nevere", Some(Retry::Never)),
        ("8:intervali7200e8:retry in4:soone", after(7200)),
    ] {
        assert_eq!(
            retry(&format!("d14:failure reason2:no{rest}")),
            wanted,
            "{rest}"
        );
    }
}

#[test]
fn a_url_with_spaces_and_unicode_is_encoded_except_for_its_host() {
    let url = announce_url(
        "http://bücher.example:80/my tracker/ё?k=a b",
        &request(),
        None,
    );
    let start = "http://bücher.example:80/my%20tracker/%D1%91?k=a%20b&info_hash=";
    assert!(url.starts_with(start), "{url}");
    let scrape = scrape_url("http://h/my tracker/announce", &[]);
    assert_eq!(scrape.as_deref(), Some("http://h/my%20tracker/scrape"));
    assert!(announce_url("http://h", &request(), None).starts_with("http://h?info_hash="));
}
