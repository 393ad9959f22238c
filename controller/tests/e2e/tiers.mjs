// A story of the example `oidc-tiers`: `node tiers.mjs HOSTS`.
import assert from 'node:assert/strict';
import { fetched, logIn, open, step } from '../../../deploy/dev/logins/browser.mjs';

const app = 'http://www.localhost:9080/myapp';
const { browser, context } = await open(process.argv[2]);

// What a new user gets, beginning with the page that the login leads to.
const answers = async (user, times) => {
  await context.clearCookies();
  const page = await context.newPage();
  await page.goto(app);
  await logIn(page, user);
  await page.waitForURL(app);
  const seen = JSON.parse(await page.textContent('body')).headers;
  const statuses = [200];
  while (statuses.length < times) statuses.push((await fetched(page, `${app}/api`))[0]);
  return [seen['x-user'], seen['x-user-tier'], statuses];
};

step('ada, who has gold, gets four');
assert.deepEqual(await answers('ada', 5), [['ada'], ['gold'], [200, 200, 200, 200, 429]]);

step('bob, who has bronze, gets two, although ada has used up hers');
assert.deepEqual(await answers('bob', 3), [['bob'], ['bronze'], [200, 200, 429]]);

step('eve has a quota of her own, and no way to say that she has gold');
await context.setExtraHTTPHeaders({ 'x-user': 'ada', 'x-user-tier': 'gold', 'x-id-token': 'x' });
assert.deepEqual(await answers('eve', 3), [['eve'], ['bronze'], [200, 200, 429]]);

await browser.close();
