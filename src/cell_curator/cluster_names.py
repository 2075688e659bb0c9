"""Names and notes of clusters, as undoable steps. Both stay with a cluster when it is computed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cell_curator.core.jobs import UserError
from cell_curator.io.project import Change

if TYPE_CHECKING:
    from cell_curator.session import Session

_LONGEST_NAME, _LONGEST_NOTE = 60, 2000


def rename_cluster(session: Session, number: int, name: str) -> None:
    """Call a cluster something else; an empty name gives it back the one it was born with.

    Raises
    ------
    UserError
        If there is no such cluster, or another has that name.
    """
    names = _known(session, number)
    name = " ".join(name.split())[:_LONGEST_NAME] or f"Cluster {number + 1}"
    if name in (other for n, other in names.items() if n != number):
        raise UserError(f"another cluster is called {name!r} already; choose another name")
    if name != names[number]:
        session.history.do(_Say(session, "names", number, name))


def note_cluster(session: Session, number: int, text: str) -> None:
    """Write something about a cluster; an empty text takes the note away.

    Raises
    ------
    UserError
        If there is no such cluster.
    """
    _known(session, number)
    assert session.embedding is not None
    text = text.strip()[:_LONGEST_NOTE]
    if text != session.embedding.cluster_notes.get(number, ""):
        session.history.do(_Say(session, "cluster_notes", number, text))


def _known(session: Session, number: int) -> dict[int, str]:
    names = {} if session.embedding is None else session.embedding.cluster_names
    if number not in names:
        raise UserError(f"there is no cluster {number + 1} on the map; choose one of the legend")
    return names


@dataclass(frozen=True)
class _Say:
    """Set the name or note of one cluster; nothing happens if the cluster is gone."""

    session: Session
    what: Literal["names", "cluster_notes"]
    number: int
    text: str

    @property
    def title(self) -> str:
        return "rename cluster" if self.what == "names" else "note on cluster"

    def apply(self) -> _Say:
        with self.session.lock:
            stored = self.session.embedding
            if stored is None or self.number not in stored.cluster_names:
                return self
            key, said = str(self.number), dict(stored.clustering.get(self.what, {}))
            before = str(said.pop(key, ""))
            if self.text:
                said[key] = self.text
            detail = {"cluster": self.number, "from": before, "to": self.text}
            # sorted, or the order of the legend would be that of the last rename
            said = dict(sorted(said.items(), key=lambda item: int(item[0])))
            self.session.commit(Change(self.title, detail, clustering={**stored.clustering, self.what: said}))
        return _Say(self.session, self.what, self.number, before)
