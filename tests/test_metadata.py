"""The column of metadata: words around a host, or nothing."""

import pyarrow as pa
import pytest

from curate import metadata
from curate.columns import TEXT
from curate.errors import UnknownSetting


def test_hosts_in_their_words():
    urls = pa.table({"url": pa.array(["https://A.org:80/x", None, "", "/path", "b.de"], TEXT)})
    found = metadata.host(urls, metadata.Host())
    assert found.to_pydict() == {"metadata": ["URL: a.org\n\n", None, None, None, "URL: b.de\n\n"]}
    named = metadata.host(urls.rename_columns(["page"]), metadata.Host(url="page", form="[{host}] ", column="says"))
    assert named["says"].to_pylist() == ["[a.org] ", None, None, None, "[b.de] "]
    assert named.schema.field("says").type == TEXT


def test_a_form_without_a_host_is_refused():
    with pytest.raises(UnknownSetting, match="no host"):
        metadata.Host(form="URL: ")
