// A certified OpenID provider for tests and the demo: whoever types a name is let in under it. Its one argument says, as JSON,
// which clients it knows and what differs from the defaults; it prints its issuer, and ends with its standard input.
// `/test/…` tells and changes what happens inside.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

const packages = process.env.OIDC_PROVIDER ?? fileURLToPath(new URL('../../../.tools/oidc-provider', import.meta.url));
// Its advice is for those who run it for real, and nobody reads more than the first line of the output.
console.info = console.warn = () => {};
const require = createRequire(pathToFileURL(packages + '/package.json'));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const options = JSON.parse(process.argv[2] ?? '{}');

process.stdout.on('error', () => {});

const seconds = (name, fallback) => options.ttl?.[name] ?? fallback;
const counts = {};
let fault = {};

const server = createServer();
const { host = '127.0.0.1', port = 0 } = options.listen ?? {};
await new Promise((listening) => server.listen(port, host, listening));
const issuer = `http://${host}:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: options.clients,
  conformIdTokenClaims: options.userinfoOnly ?? false,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'], profile: ['name', 'tier'] },
  scopes: ['openid', 'offline_access', 'email', 'groups', 'profile'],
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      name: `${id} Lovelace`,
      email: `${id}@${id === 'eve' ? 'evil.com' : 'example.com'}`,
      email_verified: id !== 'mallory',
      tier: id === 'ada' ? 'gold' : 'bronze',
      groups: id === 'ada' ? ['engineers', 'admins'] : ['guests'],
    }),
  }),
  features: {
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, audience) => ({ scope: 'openid email groups', audience, accessTokenFormat: 'jwt' }),
    },
  },
  // Nobody is asked for consent.
  loadExistingGrant: async (ctx) => {
    const { oidc } = ctx;
    const grant = new provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope('openid offline_access email groups profile');
    for (const resource of [oidc.params.resource ?? []].flat()) grant.addResourceScope(resource, 'openid email groups');
    await grant.save();
    return grant;
  },
  issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: options.rotate ?? true,
  ttl: {
    AccessToken: seconds('access', 3600),
    IdToken: seconds('id', 3600),
    RefreshToken: seconds('refresh', 86400),
    Session: 86400,
    Grant: 86400,
    Interaction: 600,
  },
  jwks: options.jwks,
  // It would not post to this machine otherwise.
  fetch: (url, { dispatcher, ...rest }) => fetch(url, rest),
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'PS256', 'EdDSA', 'HS256'] },
});
provider.on('server_error', (_, error) => console.error('server_error', error));
provider.on('backchannel.error', (_, error, client) => console.error('backchannel.error', client.clientId, error));
provider.on('grant.error', () => (counts['grant.error'] = (counts['grant.error'] ?? 0) + 1));
provider.on('grant.error', (ctx, error) => console.error('grant.error', error.message, error.error_detail));
provider.on('authorization.error', (ctx, error) => console.error('authorization.error', error.message, error.error_detail));

const handle = provider.callback();
const body = async (request) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
};
server.on('request', async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, issuer);
  if (pathname === '/test/counts') return response.end(JSON.stringify(counts));
  if (pathname === '/test/fault') {
    fault = JSON.parse(await body(request));
    return response.end();
  }
  counts[pathname] = (counts[pathname] ?? 0) + 1;
  if (fault.path === pathname) {
    if (fault.delay) await new Promise((done) => setTimeout(done, fault.delay));
    if (fault.status) {
      response.writeHead(fault.status, { 'content-type': fault.type ?? 'application/json' });
      return response.end(fault.huge ? ' '.repeat(fault.huge) : (fault.body ?? ''));
    }
  }
  handle(request, response);
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
console.log(issuer);
