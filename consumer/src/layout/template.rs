//! The template's own syntax.

use std::fmt;

use natsfer_common::FileName;

/// Longest template, in bytes.
const LONGEST: usize = 1_000;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Itself.
    Text(String),
    /// What a placeholder stands for, or its default where that is empty.
    Field { field: Field, default: Option<String> },
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Name,
    Dir,
    File,
    Stem,
    Ext,
    DotExt,
    Channel,
    ChannelDirectories,
    Date,
    Year,
    Month,
    Day,
    Hour,
    Transfer,
    Receiver,
    Metadata(String),
}

/// Every placeholder but that for metadata, which has a key.
const FIELDS: [(&str, Field); 15] = [
    ("name", Field::Name),
    ("dir", Field::Dir),
    ("file", Field::File),
    ("stem", Field::Stem),
    ("ext", Field::Ext),
    (".ext", Field::DotExt),
    ("channel", Field::Channel),
    ("channel/", Field::ChannelDirectories),
    ("date", Field::Date),
    ("year", Field::Year),
    ("month", Field::Month),
    ("day", Field::Day),
    ("hour", Field::Hour),
    ("transfer", Field::Transfer),
    ("receiver", Field::Receiver),
];
/// What the placeholder for metadata begins with.
const METADATA: &str = "meta.";

impl Field {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(key) = text.strip_prefix(METADATA).filter(|key| !key.is_empty()) {
            return Ok(Self::Metadata(key.into()));
        }
        let known = FIELDS.iter().find(|(name, _)| *name == text).map(|(_, field)| field.clone());
        known.ok_or_else(|| {
            let known: Vec<_> = FIELDS.iter().map(|(name, _)| format!("{{{name}}}")).collect();
            format!("there is no {{{text}}}; there are {} and {{meta.KEY}}", known.join(", "))
        })
    }

    /// Whether nothing in its place is as good as something.
    pub(super) fn may_be_empty(&self) -> bool {
        matches!(self, Self::Dir | Self::Ext | Self::DotExt)
    }

    /// Whether it must not name directories.
    pub(super) fn is_one_component(&self) -> bool {
        matches!(self, Self::Metadata(_))
    }

    /// Something that it could stand for.
    fn sample(&self) -> &str {
        match self {
            Self::DotExt => ".x",
            _ => "x",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(key) => write!(f, "{METADATA}{key}"),
            _ => f.write_str(FIELDS.iter().find(|(_, field)| field == self).map_or("", |(name, _)| name)),
        }
    }
}

/// Reads a template, and tries what could come of it.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, String> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let parts = split(text)?;
    if let Some(Part::Text(last)) = parts.last()
        && last.ends_with('/')
    {
        return Err("it ends with a directory: add {name} or {file}".into());
    }
    for with_defaults in [false, true] {
        let sample = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field { default: Some(default), .. } if with_defaults => default.clone(),
            Part::Field { field, .. } => field.sample().to_owned(),
        };
        let name: String = parts.iter().map(sample).collect();
        name.parse::<FileName>().map_err(|error| format!("it names no file: {}", error.reason()))?;
    }
    Ok(parts)
}

fn split(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        literal += &rest[..at];
        let brace = &rest[at..];
        if let Some(behind) = brace.strip_prefix("{{") {
            literal.push('{');
            rest = behind;
        } else if let Some(behind) = brace.strip_prefix("}}") {
            literal.push('}');
            rest = behind;
        } else if let Some(inside) = brace.strip_prefix('{') {
            let (placeholder, behind) = inside.split_once('}').ok_or("a '{' is not closed; '{{' stands for one")?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(placeholder_part(placeholder)?);
            rest = behind;
        } else {
            return Err("a '}' closes nothing; '}}' stands for one".into());
        }
    }
    literal += rest;
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

fn placeholder_part(text: &str) -> Result<Part, String> {
    let (name, default) = match text.split_once(":-") {
        Some((name, default)) => (name, Some(default.to_owned())),
        None => (text, None),
    };
    let field = Field::parse(name)?;
    if default.as_ref().is_some_and(|default| field.is_one_component() && default.contains('/')) {
        return Err(format!("the default of {{{name}}} has a '/'"));
    }
    Ok(Part::Field { field, default })
}
