"""Running a task from a shell: what is asked, who serves it, what is seen of it and what comes out."""
