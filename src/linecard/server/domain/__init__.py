"""What the service does, once, for both of its HTTP faces: the faces only translate.

Every function takes the running :class:`~linecard.server.service.Service` and the
:class:`~linecard.server.auth.Caller`, returns rows of the store, and raises what is in ``server/refusals.py``,
``domain/refusals.py`` or ``linecard.errors``. Ids are the texts clients send; both spellings are read.
"""
