"""scikit-learn's routing of metadata: to which methods of a classifier a pipeline or a search hands weights of rows.

It matters where scikit-learn is configured with ``enable_metadata_routing=True``. scikit-learn is imported only inside
methods that are called then.
"""

from __future__ import annotations

from typing import Any, Self

REQUESTABLE = {"fit": ("sample_weight",), "partial_fit": ("sample_weight", "classes"), "score": ("sample_weight",)}


class Routed:
    """A classifier whose ``fit``, ``partial_fit`` and ``score`` take weights of rows.

    In each request True means that the method wants what is given to the router under that name, False that it does
    not, None that it is an error to give it, and a string that it is given under that name.
    """

    _metadata_request: Any  # there only after a request: scikit-learn clones whatever it finds under this name

    def get_metadata_routing(self) -> Any:
        """What the methods ask for, a ``sklearn.utils.metadata_routing.MetadataRequest``."""
        if "_metadata_request" in vars(self):
            return self._metadata_request
        from sklearn.utils.metadata_routing import MetadataRequest

        request = MetadataRequest(owner=type(self).__name__)
        for method, names in REQUESTABLE.items():
            for name in names:
                getattr(request, method).add_request(param=name, alias=None)
        return request

    def set_fit_request(self, *, sample_weight: bool | str | None) -> Self:
        """Whether ``fit`` is to be given ``sample_weight`` by a router; return the classifier."""
        return self._request("fit", sample_weight=sample_weight)

    def set_partial_fit_request(
        self, *, sample_weight: bool | str | None = None, classes: bool | str | None = None
    ) -> Self:
        """Whether ``partial_fit`` is to be given these arguments by a router; return the classifier."""
        return self._request("partial_fit", sample_weight=sample_weight, classes=classes)

    def set_score_request(self, *, sample_weight: bool | str | None) -> Self:
        """Whether ``score`` is to be given ``sample_weight`` by a router; return the classifier."""
        return self._request("score", sample_weight=sample_weight)

    def _request(self, method: str, **aliases: bool | str | None) -> Self:
        request = self.get_metadata_routing()
        for name, alias in aliases.items():
            getattr(request, method).add_request(param=name, alias=alias)
        self._metadata_request = request
        return self
