//! Certificates of clients: as Envoy passes them on, and as a proxy before it does.

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proto::extauth::{CertificateSource, ClientCertificate, Method, Spiffe};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, OtherNameValue, SanType, date_time_ymd,
};

use crate::support::{Service, request};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // The tests are judged in 2030.
    params.not_after = date_time_ymd(2050, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.not_after = date_time_ymd(2040, 1, 1);
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn pem(params: &CertificateParams, ca: &Ca) -> String {
    params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().pem()
}

fn encoded(pem: &str) -> String {
    utf8_percent_encode(pem, NON_ALPHANUMERIC).to_string()
}

fn text(text: &str) -> Ia5String {
    text.try_into().unwrap()
}

fn uri(uri: &str) -> SanType {
    SanType::URI(text(uri))
}

/// A request over a connection with this certificate.
fn with(certificate: &str) -> CheckRequest {
    shown(Peer { certificate: encoded(certificate), ..Peer::default() })
}

fn shown(peer: Peer) -> CheckRequest {
    let mut request = request(&[]);
    request.attributes.as_mut().unwrap().source = Some(peer);
    request
}

fn service(config: ClientCertificate) -> Service {
    let config = ClientCertificate { client_header: Some("x-client".into()), ..config };
    Service::new(vec![Method::ClientCertificate(config)])
}

fn uris(patterns: &[&str]) -> ClientCertificate {
    ClientCertificate { uris: patterns.iter().map(|one| (*one).to_owned()).collect(), ..ClientCertificate::default() }
}

fn spiffe(domain: &str, paths: &[&str]) -> ClientCertificate {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    ClientCertificate {
        spiffe: Some(Spiffe { trust_domains: vec![domain.into()], paths }),
        ..ClientCertificate::default()
    }
}

#[test]
fn names_decide_and_tell_the_upstream_who_it_is() {
    let ca = ca();
    let mut params = params(vec![
        uri("spiffe://example.org/ns/shop/sa/web"),
        SanType::DnsName(text("Web.Example.ORG")),
        SanType::Rfc822Name(text("ada@example.org")),
    ]);
    params.distinguished_name.push(DnType::CommonName, "web");
    let request = with(&pem(&params, &ca));
    let answer = service(uris(&["spiffe://example.org/ns/shop/*"])).ask(&request);
    assert_eq!((answer.status, answer.set["x-client"].as_str()), (200, "spiffe://example.org/ns/shop/sa/web"));
    assert_eq!(answer.metadata["method"], "client_certificate");
    assert_eq!(answer.metadata["client"], "spiffe://example.org/ns/shop/sa/web");
    let status = |config: ClientCertificate| service(config).ask(&request).status;
    let list = |name: &str| vec![name.to_owned()];
    let default = ClientCertificate::default;
    assert_eq!(status(ClientCertificate { dns_names: list("*.example.org"), ..default() }), 200);
    assert_eq!(status(ClientCertificate { dns_names: list("WEB.example.org"), ..default() }), 200);
    assert_eq!(status(ClientCertificate { dns_names: list("*.evil.org"), ..default() }), 403);
    assert_eq!(status(ClientCertificate { emails: list("*@example.org"), ..default() }), 200);
    assert_eq!(status(ClientCertificate { emails: list("ada@example.com"), ..default() }), 403);
    assert_eq!(status(ClientCertificate { subjects: list("CN=web"), ..default() }), 200);
    assert_eq!(status(ClientCertificate { subjects: list("CN=we"), ..default() }), 403);
    assert_eq!(status(ClientCertificate { subjects: list("CN=web"), ..uris(&["spiffe://other/*"]) }), 403, "all agree");
    let none = service(uris(&["*"])).ask(&crate::support::request(&[]));
    assert_eq!((none.status, none.challenge), (403, None));
}

#[test]
fn spiffe_ids_are_compared_by_domain_and_path() {
    let ca = ca();
    let status = |names: &[&str], config: ClientCertificate| {
        let names = names.iter().map(|name| uri(name)).collect();
        service(config).ask(&with(&pem(&params(names), &ca))).status
    };
    let good = "spiffe://example.org/ns/shop/sa/web";
    assert_eq!(status(&[good], spiffe("example.org", &[])), 200);
    assert_eq!(status(&[good], spiffe("example.org", &["/ns/shop/*"])), 200);
    assert_eq!(status(&[good], spiffe("example.org", &["/ns/shopping/*", "/ns/shop"])), 403);
    assert_eq!(status(&[good], spiffe("example.com", &[])), 403);
    assert_eq!(status(&[good, "spiffe://example.org/admin"], spiffe("example.org", &[])), 403, "one URI only");
    assert_eq!(status(&[], spiffe("example.org", &[])), 403);
    let odd = [
        "https://example.org/ns",
        "SPIFFE://example.org/ns",
        "spiffe://example.org:8443/ns",
        "spiffe://example.org/../ns",
        "spiffe://example.org/ns/",
        "spiffe://example.org//ns",
        "spiffe://example.org/ns?x",
        "spiffe://example.org/ns#x",
        "spiffe://user@example.org/ns",
        "spiffe://example.org/n%41s",
        "spiffe:///ns",
        "spiffe://EXAMPLE.org/ns",
    ];
    for name in odd {
        assert_eq!(status(&[name], spiffe("example.org", &[])), 403, "{name}");
    }
}

#[test]
fn c31_names_with_nul_bytes_or_of_other_kinds_are_nobody() {
    let ca = ca();
    let status = |names: Vec<SanType>| service(uris(&["*"])).ask(&with(&pem(&params(names), &ca))).status;
    for bad in
        ["spiffe://td/ns/a%00b", "spiffe://td/ns/a%0ab", "spiffe://td/a\0b", "spiffe://td/a b", "spiffe://td/\r\n"]
    {
        assert_eq!(status(vec![uri(bad)]), 403, "{bad:?}");
    }
    let dns = |name: &str| vec![SanType::DnsName(text(name)), uri("spiffe://td/a")];
    assert_eq!(status(dns("a.example.org\0.evil.org")), 403);
    assert_eq!(status(dns("a.example.org")), 200);
    // An OTHERNAME is no name of ours, whatever it holds, and no name beside it suffers.
    let other =
        || SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], OtherNameValue::Utf8String("a\0b".into())));
    assert_eq!(status(vec![other(), uri("spiffe://td/a")]), 200);
    assert_eq!(status(vec![other()]), 403);
}

#[test]
fn what_is_no_one_certificate_is_refused() {
    let ca = ca();
    let good = pem(&params(vec![uri("spiffe://td/a")]), &ca);
    let service = service(uris(&["*"]));
    assert_eq!(service.ask(&with(&good)).status, 200);
    let body = good.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let bad = [
        "garbage".to_owned(),
        format!("{good}{good}"),
        good.replace("CERTIFICATE", "PRIVATE KEY"),
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", &body[..body.len() / 2 / 4 * 4]),
        format!("{good}{}", "\n".repeat(70_000)),
        "-----BEGIN CERTIFICATE-----\n\u{0}\n-----END CERTIFICATE-----\n".to_owned(),
    ];
    for bad in bad {
        let answer = service.ask(&with(&bad));
        assert_eq!((answer.status, answer.body.as_str()), (403, "the client certificate is not valid"), "{bad:.60}");
    }
}

#[test]
fn an_authority_and_the_time_count() {
    let (own, other) = (ca(), ca());
    let config = || ClientCertificate { ca: Some(own.pem()), ..ClientCertificate::default() };
    let ask = |certificate: &str| service(config()).ask(&with(certificate)).status;
    let names = || vec![uri("spiffe://td/a")];
    assert_eq!(ask(&pem(&params(names()), &own)), 200);
    assert_eq!(ask(&pem(&params(names()), &other)), 403);
    let mut server = params(names());
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert_eq!(ask(&pem(&server, &own)), 403, "a server's certificate is no client's");
    let mut expired = params(names());
    expired.not_after = date_time_ymd(2029, 1, 1);
    let expired = pem(&expired, &own);
    let mut early = params(names());
    early.not_before = date_time_ymd(2035, 1, 1);
    let early = pem(&early, &own);
    for certificate in [&expired, &early] {
        assert_eq!(ask(certificate), 403);
        assert_eq!(service(uris(&["*"])).ask(&with(certificate)).status, 403, "also without an authority");
    }
    let principal = shown(Peer { principal: "spiffe://td/a".into(), ..Peer::default() });
    assert_eq!(service(config()).ask(&principal).status, 403, "nobody can tell who signed it");
    assert_eq!(service(uris(&["spiffe://td/*"])).ask(&principal).status, 200);
    assert_eq!(service(uris(&["spiffe://td/b"])).ask(&principal).status, 403);
}

#[test]
fn the_header_counts_only_where_it_is_trusted() {
    let ca = ca();
    let certificate = pem(&params(vec![uri("spiffe://td/a")]), &ca);
    let header = format!("By=spiffe://td/proxy;Hash=00;Cert=\"{}\";URI=spiffe://td/fake", encoded(&certificate));
    let forged = request(&[("x-forwarded-client-cert", &header)]);
    assert_eq!(service(uris(&["*"])).ask(&forged).status, 403, "by default it does not");
    let trusting = |config| ClientCertificate { from: CertificateSource::Forwarded, ..config };
    let answer = service(trusting(uris(&["*"]))).ask(&forged);
    assert_eq!((answer.status, answer.set["x-client"].as_str()), (200, "spiffe://td/a"), "the certificate's own name");
    let with_ca = trusting(ClientCertificate { ca: Some(ca.pem()), ..ClientCertificate::default() });
    assert_eq!(service(with_ca.clone()).ask(&forged).status, 200);
    let status = |config: &ClientCertificate, header: &str| {
        service(config.clone()).ask(&request(&[("x-forwarded-client-cert", header)])).status
    };
    let any = trusting(uris(&["spiffe://td/a"]));
    assert_eq!(status(&any, "Hash=00;Subject=\"CN=a,O=\\\"b\\\";x\";URI=spiffe://td/a"), 200);
    assert_eq!(status(&with_ca, "Hash=00;URI=spiffe://td/a"), 403, "no certificate, no authority");
    let bad = [
        "Hash=00;URI=spiffe://td/a,Hash=11;URI=spiffe://td/b",
        "URI=spiffe://td/b;Subject=\"CN=x",
        "URI=spiffe://td/a;Subject=\"CN=x\"URI=spiffe://td/a",
        "URI=spiffe://td/a;Subject=\"a\";Subject=\"b\"",
        "URI=spiffe://td/a;Unknown=1",
        "URI",
        "",
        "URI=spiffe://td/a%00",
        "Cert=garbage;URI=spiffe://td/a",
        "By=spiffe://td/a",
    ];
    for header in bad {
        assert_eq!(status(&any, header), 403, "{header}");
    }
    // The certificate of the connection is the proxy's, and no client's.
    assert_eq!(service(any).ask(&with(&certificate)).status, 403);
}

#[test]
fn what_says_of_no_certificate_that_it_is_good_is_refused() {
    let default = ClientCertificate::default;
    let empty = Spiffe::default();
    let domain = |name: &str| Spiffe { trust_domains: vec![name.to_owned()], paths: vec!["ns".into()] };
    let cases = [
        (default(), "from: says of no certificate that it is good"),
        (ClientCertificate { uris: vec![String::new()], ..default() }, "uris[0]: is empty"),
        (ClientCertificate { ca: Some(String::new()), ..default() }, "ca: cannot be used"),
        (ClientCertificate { ca: Some("garbage".into()), ..default() }, "ca: cannot be used"),
        (ClientCertificate { spiffe: Some(empty), ..default() }, "spiffe.trustDomains: must name at least one"),
        (
            ClientCertificate { spiffe: Some(domain("spiffe://td")), ..default() },
            "spiffe.trustDomains[0]: is no trust domain",
        ),
        (ClientCertificate { spiffe: Some(domain("td")), ..default() }, "spiffe.paths[0]: does not start with `/`"),
        (ClientCertificate { client_header: Some("x y".into()), ..uris(&["*"]) }, "clientHeader: is no header name"),
    ];
    for (config, expected) in cases {
        let error = crate::support::refused(Method::ClientCertificate(config));
        assert!(error.contains("methods[0].clientCertificate.") && error.contains(expected), "{error}");
    }
}
