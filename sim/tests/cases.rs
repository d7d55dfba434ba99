//! Cases that engineers brought, as scenarios in `tests/cases`: each has the outcome that the real
//! network has.

use std::path::{Path, PathBuf};

use dunlin_sim::scenario::{RunOptions, Scenario, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn holds(file: &str) {
    let text = std::fs::read_to_string(folder().join(file)).expect("the file is there");
    let s = Scenario::parse(&text, file).unwrap_or_else(|e| panic!("{e}"));
    for seed in [s.seed, 2] {
        let r = run(&s, seed, &RunOptions::default());
        let failed: Vec<_> = r.outcomes.iter().filter(|o| !o.held).collect();
        assert!(
            failed.is_empty() && r.stuck.is_none(),
            "seed {seed}: {failed:#?} {:?}",
            r.stuck
        );
        assert_eq!(r.outcomes.len(), s.expects.len());
    }
    assert!(!s.expects.is_empty());
}

macro_rules! cases {
    ($($name:ident = $file:literal;)+) => {
        $(#[test]
        fn $name() {
            holds($file);
        })+

        /// Every file has a test above.
        #[test]
        fn every_case_is_run() {
            let mut files: Vec<String> = std::fs::read_dir(folder())
                .expect("the folder is there")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name.ends_with(".toml"))
                .collect();
            files.sort();
            assert_eq!(files, [$($file),+]);
        }
    };
}

cases! {
    customers_of_one_carrier = "cgnat.toml";
    neighbours_of_one_who_opens_flows = "full-tables.toml";
    homes_with_ipv6 = "ipv6.toml";
    a_carrier_that_forgets_after_30_s = "mobile.toml";
    two_homes_and_two_hosts_of_one = "one-lan.toml";
    a_router_that_reboots = "reboot.toml";
    a_swarm_whose_seeds_leave = "seeds-leave.toml";
    static_ports_of_pf = "static-port.toml";
    a_company_that_allows_only_the_web = "web-only.toml";
    a_download_and_a_slower_one = "within.toml";
}
