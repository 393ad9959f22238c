//! The server shell from outside, in one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod connections;
mod floods;
mod http;
mod serve;
mod server;
