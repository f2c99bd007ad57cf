// Opens every built page in a headless Chromium, light and dark, and prints what is wrong, a line
// each: axe-core's violations of WCAG 2.2 A and AA, errors of scripts, what does not fit a phone, a
// search that finds nothing.
//
//   node check.mjs HTML_DIR [--pictures OUT_DIR] [page.html ...]
//
// Chromium is found on the PATH or named by CHROMIUM. Nothing outside HTML_DIR is loaded.
import { execFileSync } from "node:child_process";
import { createReadStream, existsSync, mkdirSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join, resolve } from "node:path";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"];
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png" };
const WIDTHS = [390, 820, 1440];

const words = process.argv.slice(2);
const root = resolve(words.shift());
const pictures = words[0] === "--pictures" ? resolve(words.splice(0, 2)[1]) : null;
const pages = words.length ? words : found(root, "");

function found(folder, prefix) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.startsWith("_")) return [];
    if (entry.isDirectory()) return found(join(folder, entry.name), `${prefix}${entry.name}/`);
    // index.html only leads on to the first page
    return entry.name.endsWith(".html") && entry.name !== "index.html" ? [prefix + entry.name] : [];
  }).sort();
}

function browserPath() {
  const names = ["chromium", "chromium-browser", "google-chrome"];
  for (const name of process.env.CHROMIUM ? [process.env.CHROMIUM] : names) {
    try {
      return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch {}
  }
  throw new Error("no Chromium found; install chromium or name it in CHROMIUM");
}

function serve() {
  const server = createServer((request, response) => {
    const path = join(root, decodeURIComponent(new URL(request.url, "http://x").pathname));
    if (!path.startsWith(root) || !existsSync(path) || statSync(path).isDirectory()) {
      return response.writeHead(404).end();
    }
    response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" });
    createReadStream(path).pipe(response);
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
}

const problems = { count: 0, push: (line) => (problems.count += 1, console.log(line)) };
const server = await serve();
const home = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: browserPath(), args: ["--no-sandbox"] });

async function open(mode, width, height = 900) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: mode });
  context.setDefaultTimeout(300000); // the machine may be busy
  // what comes from elsewhere (badges) is not ours to judge, and must not be waited for
  await context.route((url) => url.origin !== home, (route) => route.abort());
  await context.addInitScript((chosen) => {
    localStorage.setItem("mode", chosen);
    localStorage.setItem("theme", chosen);
  }, mode);
  return context;
}

// What is wrong with the page at a width: it is wider than the window, or a picture is distorted.
async function layout(page, width) {
  await page.setViewportSize({ width, height: 900 });
  return page.evaluate(() => {
    const over = document.documentElement.scrollWidth - innerWidth;
    const stretched = [...document.images].filter((image) => {
      const ratio = (image.width / image.height) * (image.naturalHeight / image.naturalWidth);
      return image.naturalWidth && Math.abs(ratio - 1) > 0.05;
    });
    const found = stretched.map(({ alt, width, height }) => `distorted to ${width} x ${height}: ${alt}`);
    return over > 1 ? [`${over} pixels wider than the window`, ...found] : found;
  });
}

for (const mode of ["light", "dark"]) {
  const context = await open(mode, 1280);
  for (const name of pages) {
    const page = await context.newPage();
    const said = (what) => problems.push(`${name} (${mode}): script: ${what}`);
    page.on("pageerror", (error) => said(error.message));
    page.on("console", (line) => {
      const elsewhere = line.location().url && !line.location().url.startsWith(home);
      if (line.type() === "error" && !elsewhere) said(line.text());
    });
    await page.goto(`${home}/${name}`, { waitUntil: "load" });
    await page.evaluate(AXE);
    const { violations } = await page.evaluate((tags) => axe.run(document, { runOnly: tags }), TAGS);
    for (const { id, help, nodes } of violations) {
      for (const { target, failureSummary } of nodes.slice(0, 3)) {
        const why = failureSummary.split("\n").slice(1).map((line) => line.trim()).join("; ");
        problems.push(`${name} (${mode}): ${id}: ${help}: ${target.join(" ")} (${nodes.length} places) ${why}`);
      }
    }
    for (const what of await layout(page, WIDTHS[0])) problems.push(`${name} (${mode}, ${WIDTHS[0]}): ${what}`);
    await page.close();
  }
  await context.close();
}

const context = await open("light", 1280);
const search = await context.newPage();
await search.goto(`${home}/search.html?q=cold-start`);
const hits = await search.waitForSelector("#search-results li a", { timeout: 60000 }).catch(() => null);
if (!hits) problems.push("search.html: 'cold-start' is not found");
await context.close();

if (pictures) {
  mkdirSync(pictures, { recursive: true });
  for (const mode of ["light", "dark"]) {
    for (const width of WIDTHS) {
      const context = await open(mode, width);
      for (const name of pages) {
        const page = await context.newPage();
        await page.goto(`${home}/${name}`, { waitUntil: "load" });
        for (const what of await layout(page, width)) problems.push(`${name} (${mode}, ${width}): ${what}`);
        const file = `${name.replace(".html", "").replaceAll("/", "-")}-${width}-${mode}.png`;
        await page.screenshot({ path: join(pictures, file), fullPage: true });
        await page.close();
      }
      await context.close();
    }
  }
}

await browser.close();
server.close();
console.log(`${pages.length} pages, ${problems.count} problems`);
process.exit(problems.count ? 1 : 0);
