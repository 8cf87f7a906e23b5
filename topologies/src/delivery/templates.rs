//! The texts of messages: templates in `config/templates/<locale>/<name>.txt`, built in, with files of a folder before them.
//!
//! A file has three sections, each a template of minijinja: `--- subject` and `--- text` (e-mail; Telegram takes both), `--- sms`. Every template
//! of every case is checked at start: there, parsed, and using no parameter that its messages do not have.

use std::collections::BTreeMap;
use std::path::Path;

use kstreams::{Error, Result};
use minijinja::{Environment, UndefinedBehavior};

use crate::notifications::cases::Case;

use super::rules::Message;

/// The languages that every case has a template in.
pub const LOCALES: [&str; 2] = ["ru", "en"];
/// The sections of a file.
const SECTIONS: [&str; 3] = ["subject", "text", "sms"];

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        &[$(
            ("ru", $name, include_str!(concat!("../../../config/templates/ru/", $name, ".txt"))),
            ("en", $name, include_str!(concat!("../../../config/templates/en/", $name, ".txt"))),
        )+]
    };
}

/// Locale, name and text of every built-in template.
const BUILT_IN: &[(&str, &str, &str)] = built_in![
    "request_created",
    "manager_assigned",
    "job_assigned",
    "contractor_found",
    "work_completed",
    "work_report",
    "clarification_needed",
    "request_cancelled",
    "access_revoked",
    "contract_generated",
    "completion_act",
    "payment_order",
    "payment_processed",
];

/// A message's texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// One line.
    pub subject: String,
    /// The whole.
    pub text: String,
    /// The whole in a few words.
    pub sms: String,
}

/// All templates, ready.
pub struct Templates {
    environment: Environment<'static>,
    default_locale: String,
}

impl Templates {
    /// Reads and checks all templates; those of `folder` (empty: none) go before the built-in ones.
    ///
    /// # Errors
    /// `Invalid` naming the file, what was found and what is wanted.
    pub fn load(folder: &str, default_locale: &str) -> Result<Self> {
        let mut files: BTreeMap<(String, String), (String, String)> = BTreeMap::new();
        for (locale, name, text) in BUILT_IN {
            let place = format!("built-in template {locale}/{name}.txt");
            let key = ((*locale).to_owned(), (*name).to_owned());
            files.insert(key, (place, (*text).to_owned()));
        }
        if !folder.is_empty() {
            read_folder(Path::new(folder), &mut files)?;
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for ((locale, name), (place, text)) in &files {
            for (section, source) in sections(place, text)? {
                environment
                    .add_template_owned(format!("{locale}/{name}/{section}"), source)
                    .map_err(|error| {
                        Error::invalid(format!("{place}, section {section}: {error}"))
                    })?;
            }
        }
        let templates = Self { environment, default_locale: default_locale.to_owned() };
        templates.check(&files)?;
        Ok(templates)
    }

    /// The texts of a message, in its language, its main language (`en` of `en-GB`), or the default.
    ///
    /// # Errors
    /// What is missing, for the `notification.failed`.
    pub fn render(&self, message: &Message) -> std::result::Result<Text, String> {
        let locale = message.locale.to_lowercase();
        let main = locale.split(['-', '_']).next().unwrap_or_default();
        let name = &message.template;
        let has = |locale: &&str| {
            self.environment.get_template(&format!("{locale}/{name}/subject")).is_ok()
        };
        let locale = [locale.as_str(), main, self.default_locale.as_str()]
            .into_iter()
            .find(has)
            .ok_or_else(|| format!("there is no template \"{name}\""))?;
        let render = |section: &str| {
            let template = self.environment.get_template(&format!("{locale}/{name}/{section}"));
            let text = template.and_then(|template| template.render(&message.parameters));
            text.map(|text| text.trim().to_owned())
                .map_err(|error| format!("template {locale}/{name}, section {section}: {error:#}"))
        };
        // A line break in a title must not become a header of the mail.
        let subject = render("subject")?.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Text { subject, text: render("text")?, sms: render("sms")? })
    }

    fn check(&self, files: &BTreeMap<(String, String), (String, String)>) -> Result<()> {
        if !LOCALES.contains(&self.default_locale.as_str())
            && !files.keys().any(|(locale, _)| *locale == self.default_locale)
        {
            return Err(Error::invalid(format!(
                "setting delivery.default_locale: found \"{}\", wanted a language with templates, such as ru",
                self.default_locale
            )));
        }
        for ((locale, name), (place, _)) in files {
            let Some(case) = Case::ALL.iter().find(|case| case.template() == name) else {
                continue; // for commands of others
            };
            for section in SECTIONS {
                let template = self.environment.get_template(&format!("{locale}/{name}/{section}"));
                let used = template.map(|t| t.undeclared_variables(false)).unwrap_or_default();
                let unknown =
                    used.iter().filter(|used| !case.parameters().contains(&used.as_str()));
                let mut unknown: Vec<&str> = unknown.map(String::as_str).collect();
                unknown.sort_unstable();
                if let Some(first) = unknown.first() {
                    return Err(Error::invalid(format!(
                        "{place}, section {section}: found the parameter {first}, wanted one of: {}",
                        case.parameters().join(", ")
                    )));
                }
            }
            for value in ["1", ""] {
                self.try_out(*case, locale, value)
                    .map_err(|error| Error::invalid(format!("{place}: {error}")))?;
            }
        }
        Ok(())
    }

    /// Renders a case's template with this value for every parameter.
    fn try_out(&self, case: Case, locale: &str, value: &str) -> std::result::Result<(), String> {
        let parameters = case.parameters().iter();
        let message = Message {
            id: uuid::Uuid::nil(),
            template: case.template().to_owned(),
            parameters: parameters.map(|name| ((*name).to_owned(), value.to_owned())).collect(),
            locale: locale.to_owned(),
            request_id: None,
            correlation_id: None,
            command_id: uuid::Uuid::nil(),
            trace: None,
        };
        let text = self.render(&message)?;
        match [&text.subject, &text.text, &text.sms].iter().any(|text| text.is_empty()) {
            true => Err(format!("a section is empty where every parameter is \"{value}\"")),
            false => Ok(()),
        }
    }
}

fn read_folder(
    folder: &Path,
    files: &mut BTreeMap<(String, String), (String, String)>,
) -> Result<()> {
    let refuse = |path: &Path, error: std::io::Error| {
        let text = format!("setting delivery.templates_dir: cannot read \"{}\"", path.display());
        Error::invalid(text).with_source(error)
    };
    let list = |path: &Path| -> Result<Vec<std::path::PathBuf>> {
        let entries = std::fs::read_dir(path).map_err(|error| refuse(path, error))?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|error| refuse(path, error))?.path());
        }
        paths.sort();
        Ok(paths)
    };
    let name_of = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    for locale in list(folder)?.into_iter().filter(|path| path.is_dir()) {
        for file in list(&locale)? {
            if file.extension().is_none_or(|extension| extension != "txt") {
                continue;
            }
            let text = std::fs::read_to_string(&file).map_err(|error| refuse(&file, error))?;
            let (Some(locale), Some(name)) = (name_of(&locale), name_of(&file)) else { continue };
            let place = format!("template \"{}\"", file.display());
            files.insert((locale.to_lowercase(), name), (place, text));
        }
    }
    Ok(())
}

/// The sections of a file, by name.
fn sections(place: &str, text: &str) -> Result<BTreeMap<&'static str, String>> {
    let mut found: BTreeMap<&'static str, String> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("--- ") {
            let section = SECTIONS.iter().find(|section| **section == name.trim());
            let section = section.ok_or_else(|| {
                let wanted = SECTIONS.join(", ");
                Error::invalid(format!("{place}: found section \"{name}\", wanted {wanted}"))
            })?;
            found.insert(section, String::new());
            current = Some(*section);
        } else if let Some(text) = current.and_then(|section| found.get_mut(section)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    match SECTIONS.iter().find(|section| !found.contains_key(**section)) {
        Some(missing) => {
            Err(Error::invalid(format!("{place}: found no line \"--- {missing}\", wanted one")))
        }
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(case: Case, locale: &str) -> Message {
        let parameters =
            case.parameters().iter().map(|name| ((*name).to_owned(), format!("<{name}>")));
        Message {
            id: uuid::Uuid::nil(),
            template: case.template().to_owned(),
            parameters: parameters.collect(),
            locale: locale.to_owned(),
            request_id: None,
            correlation_id: None,
            command_id: uuid::Uuid::nil(),
            trace: None,
        }
    }

    fn refused(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = Templates::load(folder.path().to_str().unwrap(), "ru");
        loaded.err().expect("the templates are refused").to_string()
    }

    #[test]
    fn every_case_has_a_text_in_both_languages_that_says_its_request() {
        let templates = Templates::load("", "ru").unwrap();
        for case in Case::ALL {
            let [ru, en] = LOCALES.map(|locale| templates.render(&message(*case, locale)).unwrap());
            assert_ne!(ru, en);
            for text in [ru, en] {
                assert!(!text.subject.contains('\n') && text.sms.chars().count() < 200, "{text:?}");
                if case.parameters().contains(&"request_id") {
                    for part in [&text.subject, &text.text, &text.sms] {
                        assert!(part.contains("<request_id>"), "{case:?}: {text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_language_falls_back_to_its_main_one_and_then_to_the_default() {
        let templates = Templates::load("", "ru").unwrap();
        let subject =
            |locale: &str| templates.render(&message(Case::WorkCompleted, locale)).unwrap().subject;
        assert_eq!(subject("en-GB"), subject("en"));
        assert_eq!(subject("EN"), subject("en"));
        assert_eq!(subject("lv"), subject("ru"));
        assert_ne!(subject("ru"), subject("en"));
    }

    #[test]
    fn what_is_wrong_with_a_template_is_told_at_start() {
        let whole = "--- subject\ns {{ request_id }}\n--- text\nt\n--- sms\ns\n";
        for (text, wanted) in [
            (
                whole.replace("request_id", "requst_id"),
                "found the parameter requst_id, wanted one of: city",
            ),
            (whole.replace("{{ request_id }}", "{{ request_id"), "section subject"),
            (whole.replace("--- sms\ns\n", ""), "found no line \"--- sms\""),
            (whole.replace("--- sms", "--- SMS"), "found section \"SMS\""),
            (whole.replace("--- text\nt\n", "--- text\n{{ title }}\n"), "is empty where"),
        ] {
            let error = refused(&[("ru/request_created.txt", &text)]);
            assert!(error.contains("ru/request_created.txt") && error.contains(wanted), "{error}");
        }
        let error = Templates::load("/nowhere/at/all", "ru").err().unwrap().to_string();
        assert!(error.contains("delivery.templates_dir"), "{error}");
        let error = Templates::load("", "xx").err().unwrap().to_string();
        assert!(error.contains("delivery.default_locale"), "{error}");
    }

    #[test]
    fn a_missing_parameter_or_template_is_told_and_a_subject_is_one_line() {
        let templates = Templates::load("", "ru").unwrap();
        let mut incomplete = message(Case::RequestCreated, "en");
        incomplete.parameters.remove("request_id");
        assert!(templates.render(&incomplete).unwrap_err().contains("request_created"));
        let mut unknown = message(Case::RequestCreated, "en");
        unknown.template = "no_such".to_owned();
        assert!(templates.render(&unknown).unwrap_err().contains("no_such"));
        let mut hostile = message(Case::RequestCreated, "en");
        hostile.parameters.insert("title".into(), "a\r\nBcc: all@example.org".into());
        assert!(!templates.render(&hostile).unwrap().subject.contains(['\r', '\n']));
    }
}
