//! The simulated gateway beside miniupnpd: both get the same requests, good and bad ones, and their
//! answers are compared one by one. What differs is explained in [`EXPLAINED`], and nothing else may.

mod asked;
mod essence;
mod real;
mod simulated;

use std::collections::BTreeSet;

use asked::Ask;

/// The requests whose answers differ, and why. An entry that is not needed fails the test.
const EXPLAINED: &[(&str, &str)] = &[
    (
        "pcp proto 132",
        "the daemon maps SCTP; the NAT of the model carries UDP and TCP",
    ),
    (
        "pcp filter",
        "Debian's daemon knows the option FILTER; the model refuses it, like a box without it",
    ),
    (
        "pcp peer",
        "Debian's daemon knows the opcode PEER; the model refuses it, like a box without it",
    ),
    (
        "pcp version 1",
        "the daemon still reads a draft's version 1, in which this request is malformed; the model \
         answers with its own version",
    ),
    (
        "http connection",
        "the daemon's description calls the answer of AddAnyPortMapping NewExternalPort, but the \
         answer and the standard say NewReservedPort",
    ),
];

#[test]
fn the_simulated_gateway_answers_as_miniupnpd_does() {
    let asked = asked::all();
    let real = real::answers(&asked);
    let simulated = simulated::answers(&asked);
    let names: BTreeSet<&str> = asked.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), asked.len(), "a name is there twice");
    let mut wrong = Vec::new();
    let mut equal = 0;
    for (((name, ask), real), simulated) in asked.iter().zip(&real).zip(&simulated) {
        let (real, simulated) = (ask.essence(real), ask.essence(simulated));
        let explained = EXPLAINED.iter().find(|(n, _)| n == name);
        match (real == simulated, explained) {
            (true, None) => equal += 1,
            (false, Some((_, why))) => println!("{name}: differs, because {why}"),
            (true, Some(_)) => wrong.push(format!("{name}: does not differ any more")),
            (false, None) => wrong.push(format!(
                "{name}:\n  real      {real}\n  simulated {simulated}"
            )),
        }
    }
    println!("{equal} of {} answers are equal", asked.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A daemon that answers nothing would be like a gateway that answers nothing.
    let silent = asked
        .iter()
        .zip(&real)
        .filter(|(_, answers)| answers.is_empty());
    assert!(silent.count() * 8 < asked.len(), "the daemon is silent");
    assert!(asked.iter().any(|(_, ask)| matches!(ask, Ask::Http(_))));
}
