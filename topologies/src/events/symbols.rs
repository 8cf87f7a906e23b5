//! The enums of the contracts. A symbol that this version does not know reads as `Unknown`.

macro_rules! symbols {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $symbol:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $(
                #[doc = concat!("`", $symbol, "`")]
                #[serde(rename = $symbol)]
                $variant,
            )+
            /// A symbol that this version does not know.
            #[serde(rename = "UNKNOWN", other)]
            Unknown,
        }

        impl $name {
            /// All symbols but the unknown one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The symbol as it stands in the schema.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $symbol,)+
                    Self::Unknown => "UNKNOWN",
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

symbols! {
    /// How soon the customer needs the work; UNKNOWN stands for a value that the reader does not know.
    Urgency {
        Low = "low",
        Medium = "medium",
        High = "high",
        Critical = "critical",
    }
}

symbols! {
    /// Priority of an assignment, P1 first.
    Priority {
        P1 = "P1",
        P2 = "P2",
        P3 = "P3",
        P4 = "P4",
    }
}

symbols! {
    /// Status of a request; completed, cancelled, closed and rejected are final.
    RequestStatus {
        New = "new",
        Assigned = "assigned",
        Escalated = "escalated",
        SentToContractors = "sent_to_contractors",
        ContractorAssigned = "contractor_assigned",
        InProgress = "in_progress",
        Completed = "completed",
        Cancelled = "cancelled",
        Closed = "closed",
        Rejected = "rejected",
    }
}

symbols! {
    /// How a recipient is reached.
    Channel {
        Email = "email",
        Telegram = "telegram",
        Sms = "sms",
    }
}

symbols! {
    /// Why access was granted or revoked.
    AccessReason {
        Verified = "verified",
        NotVerified = "not_verified",
        Rejected = "rejected",
        Expired = "expired",
        RegionNotAllowed = "region_not_allowed",
        RequestClosed = "request_closed",
        UnknownRequest = "unknown_request",
        RequestCancelled = "request_cancelled",
        RequestCompleted = "request_completed",
        Reassigned = "reassigned",
    }
}

symbols! {
    /// Kind of document.
    DocumentType {
        CompletionAct = "completion_act",
        PaymentOrder = "payment_order",
    }
}

impl RequestStatus {
    /// Whether nothing more happens to a request with this status.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Closed | Self::Rejected)
    }
}
