//! Tokio driver, Session API and the dunlin command.
