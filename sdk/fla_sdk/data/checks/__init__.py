"""Is a dataset fit to be learned from? `check` says what is wrong with it, without changing anything."""

from fla_sdk.data.checks.examination import Examination as Examination
from fla_sdk.data.checks.examination import check as check
from fla_sdk.data.checks.examination import examine as examine
from fla_sdk.data.checks.finding import Finding as Finding
