// A session that ends at its provider: `node oidc-ends.mjs HOSTS ISSUER`.
import assert from 'node:assert/strict';
import { fetched, logIn, open, session, step } from '../../../deploy/dev/logins/browser.mjs';

const app = 'http://www.localhost:9080/myapp';
const [hosts, issuer] = process.argv.slice(2);
const { browser, context } = await open(hosts);
const page = await context.newPage();

step('somebody logs in, and sends more than extauth would take');
await page.goto(app);
await logIn(page, 'ada');
await page.waitForURL(app);
const posted = await page.evaluate(async (url) => (await fetch(url, { method: 'POST', body: 'x'.repeat(200_000) })).status, `${app}/api`);
assert.equal(posted, 200, 'bodies of other paths are nobody else\'s business');

step('and logs out at the provider alone');
const other = await context.newPage();
await other.goto(`${issuer}/session/end`);
await other.click('button[name=logout]');
await other.waitForLoadState();

step('which tells us: the cookie is still there, and the session is over');
for (let status = 200; status !== 401; ) [status] = await fetched(page, `${app}/api`);
assert.notEqual(await session(context), undefined);

await browser.close();
