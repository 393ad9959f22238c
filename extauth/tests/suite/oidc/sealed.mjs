// A story of a session that only the browser keeps: `node sealed.mjs SHOP`.
import assert from 'node:assert/strict';
import * as logins from '../../../../deploy/dev/logins/browser.mjs';

const { step, logIn: login } = logins;
const [shop] = process.argv.slice(2);
const { browser, context } = await logins.open();
// The session, which may take several cookies, without what belongs to logins.
const session = async () => {
  const cookies = await context.cookies(shop);
  return cookies.filter(({ name }) => name.startsWith('__Host-session-') && !name.includes('-login'));
};
const values = async () => (await session()).map(({ value }) => value).sort().join();

step('a page leads to the provider and back');
const page = await context.newPage();
await page.goto(`${shop}/orders?page=2`);
await login(page, 'ada');
await page.waitForURL(`${shop}/orders?page=2`);
const orders = await page.textContent('body');
assert.match(orders, /x-user: ada/);
assert.doesNotMatch(orders, /session-|-login=/, 'the upstream gets our cookies');

step('the browser has the session, and cannot read it');
const cookies = await session();
assert.ok(cookies.length >= 1);
for (const { name, value, httpOnly, secure, sameSite, path } of cookies) {
  assert.ok(name.length + value.length < 4096 && !value.includes('eyJ'), `${name}=${value}`);
  assert.deepEqual([httpOnly, secure, sameSite, path], [true, true, 'Lax', '/']);
}
assert.equal(await page.evaluate('document.cookie'), '');
assert.ok(!(await context.cookies(shop)).some(({ name }) => name.includes('-login-')), 'a login that ended leaves nothing');

step('tokens are renewed without the user, and reach the browser');
const before = await values();
await page.waitForTimeout(4000);
const renewed = await page.goto(`${shop}/orders`);
assert.equal(renewed.status(), 200);
const after = await values();
assert.notEqual(after, before);
// Whoever comes next with them is who they say.
assert.deepEqual(await logins.fetched(page, `${shop}/api`), [200, false]);

step('a logout takes all of them away');
await page.goto(`${shop}/logout`);
await page.click('button[name=logout]');
await page.waitForLoadState();
assert.deepEqual(await session(), []);

step('without them a person has to log in');
await page.goto(`${shop}/orders`);
await page.waitForSelector('input[name=login]');

await browser.close();
