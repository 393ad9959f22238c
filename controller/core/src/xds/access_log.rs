//! What Envoy writes about each request.

use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{
            AccessLog, AccessLogFilter, ResponseFlagFilter, access_log, access_log_filter::FilterSpecifier,
        },
        core::v3::{SubstitutionFormatString, substitution_format_string::Format},
    },
    extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
};

use super::{metadata::structure, value::any};

/// The fields of a line, which is one JSON object.
const FIELDS: [(&str, &str); 24] = [
    (":authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("protocol", "%PROTOCOL%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user-agent", "%REQ(USER-AGENT)%"),
    ("x-envoy-origin-path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("x-envoy-upstream-service-time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x-forwarded-for", "%REQ(X-FORWARDED-FOR)%"),
    ("x-request-id", "%REQ(X-REQUEST-ID)%"),
];

/// A log of every request.
pub(crate) fn requests(path: &str) -> AccessLog {
    let format = SubstitutionFormatString { format: Some(Format::JsonFormat(structure(FIELDS))), ..Default::default() };
    let file = FileAccessLog { path: path.to_owned(), access_log_format: Some(AccessLogFormat::LogFormat(format)) };
    AccessLog {
        name: "envoy.access_loggers.file".into(),
        filter: None,
        config_type: Some(access_log::ConfigType::TypedConfig(any(&file))),
    }
}

/// A log of the connections for which there is no filter chain.
pub(crate) fn unrouted_connections(path: &str) -> AccessLog {
    let filter = FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".into()] });
    AccessLog { filter: Some(AccessLogFilter { filter_specifier: Some(filter) }), ..requests(path) }
}
