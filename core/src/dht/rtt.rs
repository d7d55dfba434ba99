//! How long a reply takes, as a histogram.
