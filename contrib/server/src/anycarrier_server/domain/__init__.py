"""What the service does, once, for both of its HTTP faces: the faces only translate.

Every function takes the running :class:`~anycarrier_server.service.Service` and the
:class:`~anycarrier_server.domain.access.Caller`, returns rows of the store, and raises what is in
``refusals`` or ``anycarrier.errors``. Ids are the texts clients send; both spellings
are read.
"""
