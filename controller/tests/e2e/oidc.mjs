// A story of the example `oidc`: `node oidc.mjs HOSTS`.
import assert from 'node:assert/strict';
import { fetched, logIn, open, session, step } from '../../../deploy/dev/logins/browser.mjs';

const app = 'http://www.localhost:9080/myapp';
const { browser, context } = await open(process.argv[2]);
const page = await context.newPage();

step('a page leads to the provider, and the provider back to the page');
await page.goto(`${app}/orders?page=2`);
await logIn(page, 'ada');
await page.waitForURL(`${app}/orders?page=2`);
const seen = JSON.parse(await page.textContent('body'));
assert.deepEqual([seen.path, seen.host], ['/myapp/orders?page=2', 'www.localhost:9080']);
assert.doesNotMatch(JSON.stringify(seen.headers), /session-|eyJ/, 'the backend gets a cookie or a token that nobody asked for');

step('pages and scripts of the session reach the backend');
assert.equal((await page.goto(app)).status(), 200);
assert.deepEqual(await fetched(page, `${app}/api`), [200, false]);
const cookie = await session(context);
assert.deepEqual([cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path], [true, true, 'Lax', '/']);

step('a script without a session gets 401 and no redirect');
await context.clearCookies({ name: cookie.name });
assert.deepEqual(await fetched(page, `${app}/api`), [401, false]);
await context.addCookies([cookie]);

step('a logout ends the session here and at the provider');
await page.goto(`${app}/logout`);
await page.click('button[name=logout]');
await page.waitForLoadState();
assert.equal(await session(context), undefined);

step('whoever comes back is asked to log in');
await page.goto(app);
await page.waitForSelector('input[name=login]');
await browser.close();
