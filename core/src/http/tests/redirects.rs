//! Redirects, and which addresses a request may reach.

use super::*;

#[test]
fn a_redirect_goes_to_a_new_stream() {
    for status in [301, 302, 303, 307, 308] {
        let mut get = get();
        get.handle_written(3);
        let answer = redirect(status, "http://[2001:db8::1]:81/x?y");
        assert_eq!(get.handle_read(NOW, answer.as_bytes()), Progress::Redirect);
        let ip: core::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_eq!((get.host(), get.port()), (Host::Ip(ip.into()), 81));
        assert!(
            get.write_buf()
                .starts_with(b"GET /x?y HTTP/1.1\r\nHost: [2001:db8::1]:81\r\n")
        );
        let answer = redirect(status, "../z");
        assert_eq!(get.handle_read(NOW, answer.as_bytes()), Progress::Redirect);
        assert!(
            get.write_buf()
                .starts_with(b"GET /z HTTP/1.1\r\nHost: [2001:db8::1]:81\r\n")
        );
        let answer = respond(200, "text/plain", b"there");
        assert_eq!(get.handle_read(NOW, &answer), Progress::Done);
        assert_eq!(result(get), ok(b"there"));
    }
}

#[test]
fn redirects_end() {
    let mut get = get();
    for _ in 0..5 {
        assert_eq!(
            get.handle_read(NOW, redirect(302, "/again").as_bytes()),
            Progress::Redirect
        );
    }
    assert_eq!(
        get.handle_read(NOW, redirect(302, "/again").as_bytes()),
        Progress::Done
    );
    let (kind, detail) = result(get).unwrap_err();
    assert_eq!(kind, OpErrorKind::Io);
    assert_eq!(
        detail,
        "http://tracker.example/announce: redirected to http://tracker.example/again: more than 5 redirects"
    );
}

#[test]
fn a_redirect_to_where_we_cannot_go_says_so() {
    for (to, expected) in [
        ("https://b.example/x?key=1", OpErrorKind::Unsupported),
        ("http://u:p@b.example:0/x", OpErrorKind::Io),
        ("http://", OpErrorKind::Io),
    ] {
        let (kind, detail) = complete(redirect(301, to)).unwrap_err();
        assert_eq!(kind, expected, "{to}");
        let clean = !detail.contains("key") && !detail.contains("u:p");
        assert!(clean && detail.contains("redirected to http"), "{detail}");
    }
    // Nowhere to go: an answer like any other.
    let answer = "HTTP/1.1 302 Found\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(complete(answer), Ok((302, b"x".to_vec())));
    let mut get = Get::new(
        NOW,
        &HttpRequest {
            family: Some(Family::V4),
            ..ask("http://a/")
        },
    )
    .unwrap();
    let _ = get.handle_read(NOW, redirect(301, "http://[::1]/").as_bytes());
    assert_eq!(kind(result(get)), OpErrorKind::NotFound);
}

#[test]
fn a_redirect_never_leads_to_a_local_address() {
    let local: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    for ip in local {
        let to = match ip {
            IpAddr::V4(ip) => format!("http://{ip}/announce"),
            IpAddr::V6(ip) => format!("http://[{ip}]/announce"),
        };
        // Written as an address.
        let denied = OpErrorKind::Denied;
        assert_eq!(complete(redirect(302, &to)).unwrap_err().0, denied);
        // By a name, which has another address as well.
        let public: IpAddr = "203.0.113.5".parse().unwrap();
        let mut get = get();
        assert_eq!(
            get.handle_resolved(NOW, &mut vec![public]),
            Progress::NeedMore
        );
        let answer = redirect(302, "http://b.example/announce");
        assert_eq!(get.handle_read(NOW, answer.as_bytes()), Progress::Redirect);
        let mut addresses = vec![ip, public];
        assert_eq!(get.handle_resolved(NOW, &mut addresses), Progress::NeedMore);
        assert_eq!(addresses, [public]);
        assert_eq!(get.handle_resolved(NOW, &mut vec![ip]), Progress::Done);
        let (kind, detail) = result(get).unwrap_err();
        assert_eq!(kind, denied, "{detail}");
        assert!(detail.contains("b.example/announce: "), "{detail}");
    }
}

#[test]
fn a_local_tracker_is_asked_to_announce_and_nothing_else() {
    let denied = |url: &str| {
        let error = Get::new(NOW, &ask(url)).unwrap_err();
        assert_eq!(error.kind, OpErrorKind::Denied, "{url}");
    };
    denied("http://127.0.0.1:8080/api/shutdown?x=/announce");
    denied("http://[::ffff:10.0.0.1]/announce/../api");
    assert!(Get::new(NOW, &ask("http://127.0.0.1/announce?x=1")).is_ok());
    let mut named = Get::new(NOW, &ask("http://a.example/api/shutdown")).unwrap();
    let local = &mut vec!["192.168.1.1".parse().unwrap()];
    assert_eq!(named.handle_resolved(NOW, local), Progress::Done);
    assert_eq!(kind(result(named)), OpErrorKind::Denied);
    let user = HttpRequest {
        origin: Origin::User,
        ..ask("http://127.0.0.1/a.torrent")
    };
    assert!(Get::new(NOW, &user).is_ok());
}
