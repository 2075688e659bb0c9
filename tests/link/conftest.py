from small_project import mapped, session  # noqa: F401
