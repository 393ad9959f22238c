// A story of logins: `node chromium.mjs SHOP SCREENSHOT`.
import assert from 'node:assert/strict';
import * as logins from '../../../../deploy/dev/logins/browser.mjs';

const { step, logIn: login } = logins;
const [shop, screenshot] = process.argv.slice(2);
const { browser, context } = await logins.open();
const session = () => logins.session(context);
const at = async (page, path) => {
  await page.waitForURL(`${shop}${path}`);
  return page.textContent('body');
};

step('a page leads to the choice, the choice to the provider, and the provider back');
const page = await context.newPage();
const first = await page.goto(`${shop}/orders?page=2`);
assert.equal(first.status(), 200);
await page.waitForSelector('text=Log in with');
if (screenshot) await page.screenshot({ path: screenshot });
await page.click('text=Our own');
await login(page, 'ada');
const orders = await at(page, '/orders?page=2');
assert.match(orders, /x-user: ada/);
assert.doesNotMatch(orders, /session-|-login=/, 'the upstream gets our cookies');

step('the browser has one opaque cookie that scripts do not see');
const cookie = await session();
assert.equal(cookie.value.length, 43);
assert.deepEqual([cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path], [true, true, 'Lax', '/']);
assert.equal(await page.evaluate('document.cookie'), '');

step('tokens are renewed without the user');
await page.waitForTimeout(4000);
const renewed = await page.goto(`${shop}/orders`);
assert.equal(renewed.status(), 200);
assert.match((await renewed.allHeaders())['set-cookie'] ?? '', new RegExp(cookie.value));

step('a script without a session gets 401 and no redirect');
await context.clearCookies();
assert.deepEqual(await logins.fetched(page, `${shop}/api`), [401, false]);
assert.deepEqual(await context.cookies(), [], 'a script starts no login');

step('three tabs log in, the last one first');
const tabs = [];
for (const path of ['/one', '/two', '/three']) {
  const tab = await context.newPage();
  await tab.goto(`${shop}${path}?idp_hint=main`);
  await tab.waitForSelector('input[name=login]');
  tabs.push([tab, path]);
}
assert.equal((await context.cookies(shop)).length, 1, 'three logins, one cookie');
for (const [tab, path] of tabs.reverse()) {
  await login(tab, 'ada');
  assert.match(await at(tab, `${path}?idp_hint=main`), /x-user: ada/);
}

step('a logout ends the session here and there');
await page.goto(`${shop}/logout`);
await page.click('button[name=logout]');
await page.waitForLoadState();
assert.equal(await session(), undefined);
await page.goto(`${shop}/orders?idp_hint=main`);
await page.waitForSelector('input[name=login]');

await browser.close();
