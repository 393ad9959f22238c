//! Load generator for Tollgate's services: open and closed loop, latencies without coordinated omission, A against B,
//! and the floors (servers that answer without looking) to compare with.
//!
//! A run is [`run::run`]: it sends what a [`target::Target`] makes up over [`connection::Pool`] at the pace of
//! [`settings::Load`] and returns a [`report::Report`]. A new target is one file that implements `Target`.

pub mod address;
pub mod compare;
pub mod connection;
pub mod credentials;
pub mod floor;
pub mod keys;
pub mod plot;
pub mod process;
pub mod record;
pub mod report;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod target;
pub mod translation;
pub mod world;
pub mod xds;
