//! Tracker requests and answers over HTTP and UDP.
