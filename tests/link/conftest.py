from small_project import execute, mapped, session  # noqa: F401
