// Chromium, and what people do in it, for stories that tests tell. What is not as it should be ends a story with an error.
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

const tools = new URL('../../../.tools/', import.meta.url);
const packages = process.env.OIDC_PROVIDER ?? fileURLToPath(new URL('oidc-provider', tools));
const { chromium } = createRequire(pathToFileURL(packages + '/package.json'))('playwright-core');

// A browser without cookies; `hosts` says where hosts are, such as `MAP www.localhost 127.0.0.2`.
export async function open(hosts) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? fileURLToPath(new URL('chromium', tools)),
    args: ['--no-sandbox', '--disable-gpu', ...(hosts ? [`--host-resolver-rules=${hosts}`] : [])],
  });
  const context = await browser.newContext();
  context.setDefaultTimeout(60_000);
  return { browser, context };
}

// Tells what comes next.
export function step(name) {
  console.log(`==> ${name}`);
}

// Fills in the provider's form, which takes any password.
export async function logIn(page, user) {
  await page.fill('input[name=login]', user);
  await page.fill('input[name=password]', 'x');
  await page.click('button[type=submit]');
}

// The one cookie that a session has.
export async function session(context) {
  const cookies = await context.cookies();
  return cookies.find(({ name }) => name.startsWith('__Host-session-') && !name.endsWith('-login'));
}

// Status of what a script of the page fetches, and whether it was redirected.
export function fetched(page, url) {
  return page.evaluate(async (wanted) => {
    const { status, redirected } = await fetch(wanted);
    return [status, redirected];
  }, url);
}
