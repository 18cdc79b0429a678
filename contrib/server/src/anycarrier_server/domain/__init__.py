"""What the service does, once, for both of its HTTP faces: the faces only translate.

Every function takes the store, or the :class:`~anycarrier_server.domain.resources.Resources` where it needs more than
that, and the :class:`~anycarrier_server.domain.access.Caller`. It returns rows of the store, and raises errors of
``refusals`` or ``anycarrier.errors``. Ids are the texts clients send; both spellings are read.
"""
