//! Markdown of creators as HTML that can do no harm: no markup of their own, no scripts, no pictures
//! from elsewhere.

use askama::filters::{Escaper as _, Html};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Schemes that a link may have.
const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];

/// A text as HTML. Its headings go below those of level `above`, without a gap.
pub(super) fn to_html(markdown: &str, above: HeadingLevel) -> String {
    let mut writer = Safe {
        heading: above,
        above,
        links: Vec::new(),
    };
    let mut out = String::new();
    html::push_html(
        &mut out,
        parser(markdown).filter_map(|event| writer.event(event)),
    );
    out
}

/// The beginning of a text without markup, at most `most` characters.
pub(super) fn to_summary(markdown: &str, most: usize) -> String {
    let mut text = String::new();
    for event in parser(markdown) {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(&part),
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            Event::End(tag) if !is_inside_a_line(tag) => text.push(' '),
            _ => {}
        }
        if text.len() > 8 * most {
            break;
        }
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(most) {
        None => words,
        Some((end, _)) => {
            let cut = &words[..end];
            let at_word = cut.rsplit_once(' ').map_or(cut, |(whole, _)| whole);
            format!("{at_word}…")
        }
    }
}

fn is_inside_a_line(tag: TagEnd) -> bool {
    matches!(
        tag,
        TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image
    )
}

fn parser(markdown: &str) -> Parser<'_> {
    Parser::new_ext(
        markdown,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH,
    )
}

struct Safe {
    /// Level of the heading last written.
    heading: HeadingLevel,
    above: HeadingLevel,
    /// Of each open link, whether it is written.
    links: Vec<bool>,
}

impl Safe {
    fn event<'a>(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        Some(match event {
            Event::Html(markup) | Event::InlineHtml(markup) => Event::Text(markup),
            Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
            Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
            Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => return None,
            Event::Start(Tag::Link { dest_url, .. }) => {
                let is_safe = SCHEMES.iter().any(|scheme| dest_url.starts_with(scheme));
                self.links.push(is_safe);
                return is_safe.then(|| Event::InlineHtml(open_link(&dest_url).into()));
            }
            Event::End(TagEnd::Link) => {
                let is_written = self.links.pop() == Some(true);
                return is_written.then_some(Event::InlineHtml(CowStr::Borrowed("</a>")));
            }
            Event::Start(Tag::Heading { level, .. }) => {
                self.heading =
                    level_of((level as usize + self.above as usize).min(self.heading as usize + 1));
                Event::Start(Tag::Heading {
                    level: self.heading,
                    id: None,
                    classes: Vec::new(),
                    attrs: Vec::new(),
                })
            }
            Event::End(TagEnd::Heading(_)) => Event::End(TagEnd::Heading(self.heading)),
            // Alignment would be a style of its own, which the page's policy refuses.
            Event::Start(Tag::Table(columns)) => Event::Start(Tag::Table(vec![
                    pulldown_cmark::Alignment::None;
                    columns.len()
                ])),
            other => other,
        })
    }
}

fn open_link(url: &str) -> String {
    let mut tag = String::from("<a rel=\"nofollow noopener noreferrer\" href=\"");
    Html.write_escaped_str(&mut tag, url)
        .expect("a String takes everything");
    tag.push_str("\">");
    tag
}

fn level_of(number: usize) -> HeadingLevel {
    HeadingLevel::try_from(number).unwrap_or(HeadingLevel::H6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(markdown: &str) -> String {
        to_html(markdown, HeadingLevel::H2)
    }

    #[test]
    fn markup_of_the_text_is_shown_not_obeyed() {
        for attack in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "[x](javascript:alert(1))",
            "[x](JavaScript&#58;alert(1))",
            "[x](data:text/html,<script>alert(1)</script>)",
            "![x](https://tracker.example/pixel.png)",
            "![x](\"onerror=alert(1))",
            "[x](https://a.example/\"onclick=alert(1))",
            "<https://a.example/\"><script>>",
        ] {
            let html = html(attack);
            for harm in [
                "<script",
                "<img",
                "href=\"javascript",
                "href=\"data",
                "\"onclick",
            ] {
                assert!(!html.contains(harm), "{attack}: {html}");
            }
        }
    }

    #[test]
    fn headings_begin_below_those_of_the_page_and_leave_no_gap() {
        assert_eq!(
            html("# A\n#### B\n# C"),
            "<h3>A</h3>\n<h4>B</h4>\n<h3>C</h3>\n"
        );
    }

    #[test]
    fn links_to_the_web_are_kept_and_tell_nothing_of_the_page() {
        let html = html("[x](https://a.example/?a=1&b=2)");
        assert!(
            html.contains("href=\"https://a.example/?a=1&#38;b=2\""),
            "{html}"
        );
        assert!(html.contains("noreferrer"), "{html}");
    }

    #[test]
    fn summary_is_the_beginning_without_markup() {
        assert_eq!(
            to_summary("# Title\n\nSome *fine*, `plain` text.", 80),
            "Title Some fine, plain text."
        );
        assert_eq!(to_summary("one two three four", 10), "one two…");
        assert_eq!(to_summary("", 10), "");
    }
}
