"""A browser as far as a login needs one: it keeps cookies, follows redirects and sends forms."""

import html
import http.client
import re
import urllib.parse

# More redirects than these are a loop.
MOST_REDIRECTS = 15
NAVIGATION = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


class Page:
    """Where a browser ended up, and how it came there."""

    def __init__(self, url, status, body, redirects):
        self.url, self.status, self.body, self.redirects = url, status, body, redirects


class Browser:
    """Hosts below localhost are found at `address`, a pair of host and port."""

    def __init__(self, address):
        self.address = address
        self.cookies = {}

    def open(self, url):
        return self.send("GET", url)

    def fetch(self, url):
        """As a script of a page asks for something."""
        return self.send("GET", url, headers={"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"})

    def submit(self, page, **fields):
        """Fills in the form of a page."""
        form = re.search(r"<form[^>]*>.*?</form>", page.body, re.DOTALL).group()
        hidden = {}
        for tag in re.findall(r"<input[^>]*type=.hidden.[^>]*>", form):
            hidden[attribute(tag, "name")] = attribute(tag, "value")
        action = urllib.parse.urljoin(page.url, attribute(form, "action"))
        return self.send("POST", action, urllib.parse.urlencode({**hidden, **fields}))

    def send(self, method, url, body=None, headers=None):
        redirects = []
        while True:
            status, location, text = self.exchange(method, url, body, headers or NAVIGATION)
            if status not in (302, 303) or not location or len(redirects) == MOST_REDIRECTS:
                return Page(url, status, text, redirects)
            redirects.append(url)
            method, url, body = "GET", urllib.parse.urljoin(url, location), None

    def exchange(self, method, url, body, headers):
        """One request and its answer, without what its redirect leads to."""
        parts = urllib.parse.urlsplit(url)
        ours = parts.hostname.endswith(".localhost")
        connection = http.client.HTTPConnection(*(self.address if ours else (parts.hostname, parts.port)), timeout=10)
        jar = self.cookies.setdefault(parts.hostname, {})
        sent = {"host": parts.netloc, **headers, "cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        if body is not None:
            sent["content-type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, urllib.parse.urlunsplit(("", "", *parts[2:4], "")) or "/", body, sent)
            response = connection.getresponse()
            for cookie in response.headers.get_all("set-cookie") or []:
                pair, *attributes = cookie.split(";")
                name, _, value = pair.partition("=")
                ends = any(re.fullmatch(r"\s*(max-age=0|expires=.* 1970 .*)", end, re.IGNORECASE) for end in attributes)
                jar.pop(name, None) if ends else jar.update({name: value})
            return response.status, response.getheader("location"), response.read().decode()
        finally:
            connection.close()


def attribute(tag, name):
    return html.unescape(re.search(rf"""{name}=["']([^"']*)["']""", tag).group(1))
