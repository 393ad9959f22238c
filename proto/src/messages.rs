//! Messages that Envoy reads and `envoy-types` lacks, field for field as in `cncf/xds`.

use envoy_types::pb::google::protobuf::{Any, Struct};
use envoy_types::pb::xds::r#type::v3::CelExpression;
use prost::{Message, Name};

/// `xds.type.matcher.v3.CelMatcher`: matches when the expression yields true.
#[derive(Clone, PartialEq, Message)]
pub struct CelMatcher {
    /// The expression.
    #[prost(message, optional, tag = "1")]
    pub expr_match: Option<CelExpression>,
    /// Free text, for people.
    #[prost(string, tag = "2")]
    pub description: String,
}

impl Name for CelMatcher {
    const NAME: &'static str = "CelMatcher";
    const PACKAGE: &'static str = "xds.type.matcher.v3";
    fn type_url() -> String {
        type_url::<Self>()
    }
}

/// `xds.type.matcher.v3.HttpAttributesCelMatchInput`: hands a request's attributes to a [`CelMatcher`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HttpAttributesCelMatchInput {}

impl Name for HttpAttributesCelMatchInput {
    const NAME: &'static str = "HttpAttributesCelMatchInput";
    const PACKAGE: &'static str = "xds.type.matcher.v3";
    fn type_url() -> String {
        type_url::<Self>()
    }
}

/// `udpa.type.v1.TypedStruct`: a message that the sender knows by name only, as JSON.
#[derive(Clone, PartialEq, Message)]
pub struct TypedStruct {
    /// Type URL of the message that `value` stands for.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message's JSON form.
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

impl Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "udpa.type.v1";
    fn type_url() -> String {
        type_url::<Self>()
    }
}

/// Packs a message into an `Any` under `type.googleapis.com/` and its full name, as Envoy looks it up.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: type_url::<M>(), value: message.encode_to_vec() }
}

fn type_url<M: Name>() -> String {
    format!("type.googleapis.com/{}", M::full_name())
}
