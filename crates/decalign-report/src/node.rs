//! Elements of SVG and HTML, escaped when they are written.

use std::fmt::{self, Display, Write};

/// An element with attributes and children, or text.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Element {
        name: &'static str,
        attributes: Vec<(&'static str, String)>,
        children: Vec<Node>,
    },
    Text(String),
    /// Written without escapes: styles and JSON.
    Raw(String),
}

/// HTML elements without an end tag.
const VOID: [&str; 2] = ["meta", "br"];

impl Node {
    pub(crate) fn new(name: &'static str) -> Self {
        Self::Element {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    /// An element with text inside.
    pub(crate) fn with_text(name: &'static str, text: impl Display) -> Self {
        Self::new(name).text(text)
    }

    /// Adds an attribute.
    pub(crate) fn set(mut self, key: &'static str, value: impl Display) -> Self {
        if let Self::Element { attributes, .. } = &mut self {
            attributes.push((key, value.to_string()));
        }
        self
    }

    /// Adds a number as attribute, rounded to a hundredth of a pixel.
    pub(crate) fn at(self, key: &'static str, value: f64) -> Self {
        let mut text = format!("{value:.2}");
        if text.contains('.') {
            text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        }
        self.set(key, if text == "-0" { "0".to_owned() } else { text })
    }

    pub(crate) fn child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    pub(crate) fn children(mut self, all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().for_each(|child| self.push(child));
        self
    }

    pub(crate) fn text(self, text: impl Display) -> Self {
        self.child(Self::Text(text.to_string()))
    }

    /// Adds a title, which is shown under the pointer and read aloud.
    pub(crate) fn title(self, text: impl Display) -> Self {
        self.child(Self::with_text("title", text))
    }

    pub(crate) fn push(&mut self, child: Self) {
        if let Self::Element { children, .. } = self {
            children.push(child);
        }
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => escape(f, text),
            Self::Raw(text) => f.write_str(text),
            Self::Element {
                name,
                attributes,
                children,
            } => {
                write!(f, "<{name}")?;
                for (key, value) in attributes {
                    write!(f, " {key}=\"")?;
                    escape(f, value)?;
                    f.write_char('"')?;
                }
                f.write_char('>')?;
                if VOID.contains(name) {
                    return Ok(());
                }
                children.iter().try_for_each(|child| child.fmt(f))?;
                write!(f, "</{name}>")
            }
        }
    }
}

/// Escapes the special characters, and removes those that XML cannot hold.
fn escape(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\t' | '\n' | '\r' => f.write_char(c)?,
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => f.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        let node = Node::new("p")
            .set("title", "a \"b\" & c")
            .at("x", 1.0)
            .at("y", -0.001)
            .text("<script>\u{0}");
        let expected = "<p title=\"a &quot;b&quot; &amp; c\" x=\"1\" y=\"0\">&lt;script&gt;</p>";
        assert_eq!(node.to_string(), expected);
    }
}
