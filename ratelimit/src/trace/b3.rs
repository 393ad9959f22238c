//! The caller's span in Zipkin's B3 headers, in one header or in several.

use opentelemetry::{
    propagation::Extractor,
    trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState},
};

/// The caller's span, if the headers hold one.
pub(super) fn extract(headers: &dyn Extractor) -> Option<SpanContext> {
    let (trace, span, sampled) = if let Some(header) = headers.get("b3") {
        let mut parts = header.split('-');
        (parts.next()?, parts.next()?, parts.next())
    } else {
        let debug = headers.get("x-b3-flags").filter(|flags| *flags == "1");
        (headers.get("x-b3-traceid")?, headers.get("x-b3-spanid")?, debug.or_else(|| headers.get("x-b3-sampled")))
    };
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    let flags = match sampled {
        Some("1" | "d" | "true") => TraceFlags::SAMPLED,
        _ => TraceFlags::default(),
    };
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";

    fn extract(headers: &[(&str, &str)]) -> Option<(String, String, bool)> {
        let headers: HashMap<String, String> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let span = super::extract(&headers)?;
        Some((span.trace_id().to_string(), span.span_id().to_string(), span.is_sampled()))
    }

    #[test]
    fn both_forms_are_read() {
        let span = "0020000000000001".to_owned();
        let one = format!("{TRACE}-{span}-1-05e3ac9a4f6e3b90");
        assert_eq!(extract(&[("b3", &one)]), Some((TRACE.into(), span.clone(), true)));
        let several = [("x-b3-traceid", TRACE), ("x-b3-spanid", &span), ("x-b3-sampled", "0")];
        assert_eq!(extract(&several), Some((TRACE.into(), span.clone(), false)));
        assert_eq!(extract(&[&several[..], &[("x-b3-flags", "1")]].concat()), Some((TRACE.into(), span, true)));
    }

    #[test]
    fn nonsense_is_no_span() {
        for header in ["", "0", "d", "x-y-1", &format!("{TRACE}-1"), &format!("{}-{}", "0".repeat(32), "0".repeat(16))]
        {
            assert_eq!(extract(&[("b3", header)]), None, "{header}");
        }
    }
}
