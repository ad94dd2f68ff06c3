//! Opens a page in a headless browser, and returns its document and the browser's errors.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use machine::launch;

/// Possible names of the browser; Debian's name is first.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The browser's time limit. It usually takes two seconds.
const TIME_LIMIT: Duration = Duration::from_secs(100);

/// Options that make the browser quiet and self-contained, and allow it to run as root.
const OPTIONS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    // In milliseconds of virtual time.
    "--virtual-time-budget=5000",
    "--window-size=1280,2000",
    "--dump-dom",
];

/// A page after its scripts have run.
pub struct Page {
    /// The document as HTML.
    pub dom: String,
    /// Errors and warnings of the page's scripts and of the browser, one line each.
    pub complaints: Vec<String>,
}

/// The widths at which a page is examined, in pixels: a phone, a tablet, a desktop.
const WIDTHS: [u32; 3] = [390, 820, 1440];
/// The script that examines a page. It runs inside the page.
const PROBE: &str = include_str!("probe.js");

/// Opens a page at several widths, light and dark, and returns what it found: text that is cut off or has too little
/// contrast. The paths of the logs are `base` with added extensions.
///
/// # Errors
/// The errors of [`open`], or an error if a page was not examined.
pub fn examine(page: &Path, base: &Path) -> Result<Vec<String>, String> {
    let html = std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    let html = html.replacen("<head>", &format!("<head><script>{PROBE}</script>"), 1);
    // Neither JSON nor the page may end the script.
    let html = serde_json::to_string(&html).unwrap_or_default().replace('<', "\\u003c");
    let mut frames = String::new();
    for width in WIDTHS {
        for scheme in ["light", "dark"] {
            frames += &format!(
                "<iframe style=\"width:{width}px;height:2000px;border:0;color-scheme:{scheme}\" title=\"{width} {scheme}\"></iframe>"
            );
        }
    }
    // The page in a frame gets the colour scheme of the `iframe` element.
    let frame = base.with_added_extension("frames.html");
    let text = format!("<!doctype html><meta charset=\"utf-8\"><body>{frames}<script>{COLLECT}</script>")
        .replace("PAGE", &html);
    output::write(&frame, text).map_err(|error| format!("cannot write {}: {error}", frame.display()))?;
    let Page { dom, complaints } = open(&frame, &frame)?;
    if !complaints.is_empty() {
        return Err(complaints.join("\n"));
    }
    let mut examined = 0;
    let mut found = Vec::new();
    for line in dom.lines().filter_map(|line| line.strip_prefix("EXAMINED ")) {
        let (name, list) = line.split_once(": ").unwrap_or((line, ""));
        let list: Vec<String> =
            serde_json::from_str(list).map_err(|error| format!("{name}: {list:?}: {error}"))?;
        found.extend(list.into_iter().map(|what| format!("{name}: {what}")));
        examined += 1;
    }
    if examined != 2 * WIDTHS.len() {
        return Err(format!(
            "{examined} of {} frames were examined; see {}",
            2 * WIDTHS.len(),
            frame.display()
        ));
    }
    Ok(found)
}

/// Fills the frames, and writes what was found in each as a line of the document.
const COLLECT: &str =
    "const page = PAGE; const list = document.body.appendChild(document.createElement('pre'));
for (const frame of document.querySelectorAll('iframe')) {
  frame.onload = () => setTimeout(() => {
    const { documentElement: root, defaultView: view } = frame.contentDocument;
    const dark = frame.contentWindow.matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
    list.append(`\\nEXAMINED ${root.clientWidth} ${dark}: ${root.dataset.found}\\n`);
  }, 3000);
  frame.srcdoc = page;
}";

/// Opens a page. The paths of the logs are `base` with added extensions.
///
/// # Errors
/// There is no browser, it fails, or it exceeds the time limit.
pub fn open(page: &Path, base: &Path) -> Result<Page, String> {
    let name = NAMES.into_iter().find(|name| is_in_path(name)).ok_or("no chromium in PATH")?;
    let profile = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut words: Vec<OsString> = vec![name.into()];
    words.extend(OPTIONS.map(OsString::from));
    words.push(concat("--user-data-dir=", profile.path()));
    words.push(concat("file://", page));
    let (dom, log) = (base.with_added_extension("dom"), base.with_added_extension("browser"));
    let create = |path: &Path| {
        output::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let mut command = launch::command(&words);
    command.stdin(Stdio::null()).stdout(create(&dom)?).stderr(create(&log)?);
    let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
    wait(child).map_err(|error| format!("{name} {error}; its output is in {}", log.display()))?;
    let read = |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (dom, output) = (read(&dom), read(&log));
    let dom = dom.map_err(|error| error.to_string())?;
    let output = output.map_err(|error| error.to_string())?;
    let complaints = output.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    Ok(Page { dom, complaints })
}

fn concat(option: &str, path: &Path) -> OsString {
    let mut word = OsString::from(option);
    word.push(path);
    word
}

fn is_in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn wait(mut child: Child) -> Result<(), String> {
    let until = Instant::now() + TIME_LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {} s", TIME_LIMIT.as_secs()));
            }
            Err(error) => return Err(format!("could not be waited for: {error}")),
        }
    }
}
