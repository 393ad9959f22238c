//! The shell around `controller-core`: where manifests come from and where the translation goes.

pub mod ads;
pub mod apply;
pub mod certgen;
pub mod cluster;
pub mod crds;
pub mod echo;
pub mod envoy;
pub mod error;
pub mod explain;
pub mod installation;
pub mod overview;
mod pods;
pub mod rbac;
mod refusal;
pub mod scope;
pub mod serve;
pub mod source;
pub mod standalone;
mod status;
pub mod translate;
mod translation;
pub mod validate;
