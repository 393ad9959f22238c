"""Envoy's configuration for a bench: listeners that answer every request that their filter lets pass."""

import dataclasses
import typing

TYPE = "type.googleapis.com/envoy.extensions"
PROTOCOLS = f"{TYPE}.upstreams.http.v3.HttpProtocolOptions"


@dataclasses.dataclass(eq=False)
class Listener:
    """A port with one filter before the answer, or none. The process is known once Envoy runs."""

    name: str
    port: int
    filter: dict | None = None
    per_route: dict | None = None
    child: typing.Any = None


def jwt_authn(jwks, cache):
    """Envoy's own verification of a token of ours, with what `extauth` makes of it: two headers and the metadata."""
    provider = {
        "issuer": "https://issuer.example.com",
        "audiences": ["shop"],
        "local_jwks": {"inline_string": jwks},
        "claim_to_headers": [
            {"claim_name": "sub", "header_name": "x-sub"}, {"claim_name": "org.tenant", "header_name": "x-tenant"},
        ],
        "payload_in_metadata": "main",
        "forward": True,
    }
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": cache}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{TYPE}.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"main": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "main"}}],
        },
    }


def ext_authz(cluster):
    """A question over gRPC for each request, and the policy that its answer comes from."""
    asks = {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{TYPE}.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}, "timeout": "5s"},
        },
    }
    policy = {
        "envoy.filters.http.ext_authz": {
            "@type": f"{TYPE}.filters.http.ext_authz.v3.ExtAuthzPerRoute",
            "check_settings": {"context_extensions": {"policy": "bench", "route": "shop/orders"}},
        },
    }
    return asks, policy


def bootstrap(listeners, clusters):
    """All of it; `clusters` are pairs of a name and a port."""
    return {
        "static_resources": {
            "listeners": [_listener(listener) for listener in listeners],
            "clusters": [_cluster(name, port) for name, port in clusters],
        },
    }


def _address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(listener):
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    if listener.per_route:
        route["typed_per_filter_config"] = listener.per_route
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": listener.name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*([listener.filter] if listener.filter else []), router],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": listener.name, "address": _address(listener.port), "filter_chains": [chain]}


def _cluster(name, port):
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}
    http2 = {"@type": PROTOCOLS, "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
    }
