use super::*;

const HEX: &str = "magnet:?xt=urn:btih:0123456789abcdef0123456789ABCDEF01234567";
const HASH: InfoHash = InfoHash([
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
    0x01, 0x23, 0x45, 0x67,
]);

fn parse(link: &str) -> Result<Magnet, MagnetError> {
    link.parse()
}

#[test]
fn hex_and_base32_are_the_same_hash() {
    assert_eq!(parse(HEX).unwrap(), Magnet::new(HASH));
    let base32 = data_encoding::BASE32.encode(&HASH.0);
    assert_eq!(base32.len(), 32);
    let link = format!("MAGNET:?dn=&xt=URN:btih:{}", base32.to_lowercase());
    assert_eq!(parse(&link).unwrap(), Magnet::new(HASH));
}

#[test]
fn all_parameters_are_read() {
    let m = parse(&format!(
        "  {HEX}&dn=A+b%20%26%2B%C3%A9&tr=udp%3A%2F%2Ft.x%3A80%2Fa+b&amp;tr.1=http://t.y/a\
         &tr=http://t.y/a&x.pe=10.0.0.1:6881&x.pe=%5B2001:db8::1%5D:7&x.pe=host.example:9\
         &x.pe=nonsense&x.pe=1.2.3.4:0&ws=http://w.x/f&xs=http://x.s/t.torrent&so=0,2,4-7&foo=1&bar\n"
    ))
    .unwrap();
    assert_eq!(m.name.as_deref(), Some("A b &+é"));
    assert_eq!(m.trackers, ["udp://t.x:80/a+b", "http://t.y/a"]);
    let peers: Vec<String> = m.peers.iter().map(ToString::to_string).collect();
    assert_eq!(
        peers,
        ["10.0.0.1:6881", "[2001:db8::1]:7", "host.example:9"]
    );
    assert_eq!(m.peers[1].addr(), Some("[2001:db8::1]:7".parse().unwrap()));
    assert_eq!(m.peers[2].addr(), None);
    assert_eq!(m.web_seeds, ["http://w.x/f"]);
    assert_eq!(m.sources, ["http://x.s/t.torrent"]);
    let selected: Vec<u32> = (0..10).filter(|&i| m.selects(i)).collect();
    assert_eq!(selected, [0, 2, 4, 5, 6, 7]);
    assert_eq!(parse(&m.to_string()).unwrap(), m);
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    assert_eq!(parse("http://x"), Err(MagnetError::NotMagnet));
    assert_eq!(parse("magnet:?dn=x"), Err(MagnetError::NoHash));
    assert_eq!(parse("magnet:?xt=urn:sha1:ABC"), Err(MagnetError::NoHash));
    let v2 = format!("xt=urn:btmh:1220{}", "ab".repeat(32));
    assert_eq!(parse(&format!("magnet:?{v2}")), Err(MagnetError::V2Only));
    assert_eq!(parse(&format!("{HEX}&{v2}")).unwrap().info_hash, Some(HASH));
    for bad in [&HEX[..59], &HEX.replace('f', "g"), "magnet:?xt=urn:btih:"] {
        assert_eq!(parse(bad), Err(MagnetError::BadHash));
    }
    let long = format!("{HEX}&dn={}", "x".repeat(65_536));
    assert_eq!(parse(&long), Err(MagnetError::TooLong));
}

#[test]
fn a_selection_that_cannot_be_read_is_ignored_with_a_warning() {
    for bad in ["a", "1-", "-1", "3-2", "4294967296", "0,x,2", "0;1"] {
        let (magnet, warnings) = Magnet::read(&format!("{HEX}&so={bad}&so=z")).unwrap();
        assert_eq!(warnings, [MagnetWarning::BadSelection], "{bad}");
        assert_eq!(magnet, Magnet::new(HASH), "all files are meant");
    }
    let (magnet, warnings) = Magnet::read(&format!("{HEX}&so=bad&so=1,2-3&so=")).unwrap();
    assert_eq!(magnet.select, [1..=1, 2..=3]);
    assert_eq!(warnings.len(), 1);
    let many = vec!["1"; 5000].join(",");
    let (magnet, warnings) = Magnet::read(&format!("{HEX}&so={many}")).unwrap();
    assert_eq!((magnet.select.len(), warnings.len()), (0, 1));
    assert!(Magnet::read(&format!("{HEX}&so=0")).unwrap().1.is_empty());
}

#[test]
fn links_are_read_however_they_were_copied() {
    for link in [
        HEX.replace("magnet:?", "magnet:///?"),
        HEX.replace("magnet:?", "Magnet:/?"),
        HEX.replace("xt", "XT"),
        HEX.replace("xt", "Xt.1").replace("urn:btih", "URN:BTIH"),
        format!(" \"{HEX}\" "),
        format!("'{HEX}'\n"),
        format!("<{HEX}>"),
        format!("“ {HEX} ”"),
        format!("\u{feff}{HEX}\u{200b}"),
        format!("\"'{HEX}'\""),
    ] {
        assert_eq!(parse(&link), Ok(Magnet::new(HASH)), "{link}");
    }
    let m = parse(&format!(
        "'{HEX}&DN=a&Tr=http://t/a&X.PE=1.2.3.4:5&WS=http://w/&SO=1'"
    ))
    .unwrap();
    assert_eq!(m.name.as_deref(), Some("a"));
    assert_eq!(
        (m.trackers.len(), m.peers.len(), m.web_seeds.len()),
        (1, 1, 1)
    );
    assert!(m.selects(1) && !m.selects(0));
    for bad in ["magnet:xt=1", "magnet://host/?xt=1", "\"\"", "'", "<magnet"] {
        assert_eq!(parse(bad), Err(MagnetError::NotMagnet), "{bad}");
    }
}

#[test]
fn a_torrent_makes_a_magnet_and_back() {
    let mut t = Torrent::new(Info::from_raw(single(&[])).unwrap().into());
    t.trackers = vec![vec!["a:1".into(), "a:2".into()], vec!["b:1".into()]];
    t.web_seeds = vec!["http://w.x/f".into()];
    let m = t.magnet();
    assert_eq!(
        m.to_string(),
        format!(
            "magnet:?xt=urn:btih:{}&dn=file.bin&tr=a%3A1&tr=a%3A2&tr=b%3A1&ws=http%3A%2F%2Fw.x%2Ff",
            t.info.info_hash()
        )
    );
    let back = m.torrent(t.info.clone());
    assert_eq!(back.trackers, [["a:1"], ["a:2"], ["b:1"]]);
    assert_eq!((back.info, back.web_seeds), (t.info, t.web_seeds));
}

#[test]
fn a_key_stands_for_a_torrent() {
    // The examples of BEP 46.
    let link =
        "magnet:?xs=urn:btpk:8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e";
    let m = parse(link).unwrap();
    let key = m.key.clone().unwrap();
    assert_eq!((m.info_hash, key.key[0], key.salt.len()), (None, 0x85, 0));
    assert_eq!(m, Magnet::of_key(key));
    assert_eq!(m.to_string(), link);
    let salted = parse(&format!("{link}&s=6E&dn=x")).unwrap();
    assert_eq!(salted.key.as_ref().unwrap().salt, b"n");
    assert_eq!(salted.to_string(), format!("{link}&s=6e&dn=x"));
    // The salt may come first, and a hash may stand beside the key.
    let both = parse(
        &link
            .replace('?', "?s=6e&")
            .replace("xs", &format!("{}&xs", &HEX[8..])),
    );
    let both = both.unwrap();
    assert_eq!((both.info_hash, &both.key), (Some(HASH), &salted.key));
    assert_eq!(parse(&both.to_string()), Ok(both));
    // Without a key, `s` has another meaning.
    assert_eq!(parse(&format!("{HEX}&s=zz")), Ok(Magnet::new(HASH)));
    for bad in [
        &link[..link.len() - 1],
        &format!("{link}0"),
        &link.replace("8543", "854g"),
        &format!("{link}&s=6"),
        &format!("{link}&s=xx"),
        &format!("{link}&s={}", "00".repeat(65)),
    ] {
        assert_eq!(parse(bad), Err(MagnetError::BadKey), "{bad}");
    }
}
