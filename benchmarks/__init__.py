"""Speed, memory and quality of the library, against physical limits and against other libraries."""
